//! `/usr/bin/jupyterhub-openssh`: the program is in the library [`admin`].

use host::sys::heap::Heap;

/// The allocator that locks its memory where the program is a gateway, because a gateway holds
/// tokens.
#[global_allocator]
static HEAP: Heap = Heap;

fn main() {
    std::process::exit(admin::cli::run().into());
}
