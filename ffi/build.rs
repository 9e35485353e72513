//! Gives the shared library its soname, the name that programs linked today will look for for ever; and keeps it in
//! memory once it is loaded, since threads that called it end through it (registry.rs).

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The number is the ABI's major version, `CORERING_ABI_MAJOR` in src/version.rs; tests/all/symbols.rs compares the two.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcorering.so.0");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
