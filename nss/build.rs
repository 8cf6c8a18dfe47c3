//! Link options of the module.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // glibc looks for this name (nsswitch.conf(5)).
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libnss_jupyterhub.so.2");
    // Rust's standard library may leave state behind in the process: the module must stay mapped.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
