//! Link options of the module.
fn main() {
    // libpam dlclose()s modules in pam_end(3). Rust's standard library may have registered thread-local
    // destructors by then, which must not point into unmapped code.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=build.rs");
}
