//! /usr/bin/jupyterhub-openssh
use host::sys::heap::Heap;

/// A gateway locks its memory.
#[global_allocator]
static HEAP: Heap = Heap;

fn main() {
    std::process::exit(admin::cli::run().into());
}
