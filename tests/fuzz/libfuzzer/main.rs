//! The entry point for libFuzzer: `FUZZ_TARGET` names the target. With `FUZZ_SEEDS` it writes the target's seeds into that folder first.

#![no_main]

#[path = "../script.rs"]
mod script;
#[path = "../targets/mod.rs"]
mod targets;

use std::sync::LazyLock;

use targets::Target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    targets::named(&name)
        .unwrap_or_else(|| panic!("FUZZ_TARGET={name}: want one of {:?}", targets::ALL.map(|(name, _)| name)))
});

libfuzzer_sys::fuzz_target!(
    init: {
        if let Some(folder) = std::env::var_os("FUZZ_SEEDS").map(std::path::PathBuf::from) {
            for (number, seed) in (TARGET.seeds)().into_iter().enumerate() {
                std::fs::write(folder.join(format!("seed-{number}")), seed).expect("a folder for seeds");
            }
        }
    },
    |data: &[u8]| (TARGET.run)(data)
);
