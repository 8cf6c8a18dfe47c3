//! /usr/bin/jupyterhub-openssh
use jupyterhub_openssh::sys::heap::Heap;

/// A gateway locks its memory.
#[global_allocator]
static HEAP: Heap = Heap;

fn main() {
    std::process::exit(jupyterhub_openssh::cli::run().into());
}
