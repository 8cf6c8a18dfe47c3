//! terminado
