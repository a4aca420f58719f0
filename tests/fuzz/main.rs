//! The fuzz targets for a moment each: every seed, then seeds with a few bytes changed. `tests/fuzz/run` does the same for as long as
//! one likes, and is led by coverage.
//!
//! `FUZZ_RUNS` is how many changed inputs each target gets, `FUZZ_SEED` where they begin; both are printed when a target fails.

mod script;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};

use data_encoding::HEXLOWER;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use self::targets::Target;

/// From the environment, or the default.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One to eight changes of the kinds that find most: a byte, a bit, a cut, a repetition, bytes put in, a part of another seed.
fn change(input: &mut Vec<u8>, others: &[Vec<u8>], rng: &mut StdRng) {
    for _ in 0..rng.random_range(1..=8) {
        let at = rng.random_range(0..=input.len());
        let end = rng.random_range(at..=input.len().min(at + 32));
        match rng.random_range(0..6) {
            0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = rng.random()),
            1 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.random_range(0..8)),
            2 => _ = input.drain(at..end),
            3 => input.extend_from_within(at..end),
            4 => {
                let mut bytes = vec![0; rng.random_range(1..16)];
                rng.fill_bytes(&mut bytes);
                input.splice(at..at, bytes);
            }
            _ => {
                let other = &others[rng.random_range(0..others.len())];
                let from = rng.random_range(0..=other.len());
                input.splice(at..end, other[from..].iter().copied().take(64));
            }
        }
    }
    input.truncate(4096);
}

fn run(name: &str) {
    let Target { run, seeds, runs } = targets::named(name).expect("no such target");
    let (seed, runs) = (setting("FUZZ_SEED", 1), setting("FUZZ_RUNS", runs));
    let (seeds, mut rng) = (seeds(), StdRng::seed_from_u64(seed));
    assert!(!seeds.is_empty(), "{name} begins with nothing");
    let mut inputs = seeds.clone();
    for number in 0..runs {
        let mut input = inputs[number as usize % inputs.len()].clone();
        change(&mut input, &seeds, &mut rng);
        if number % 4 == 0 {
            inputs.push(input.clone());
        }
        try_one(name, run, &input, seed);
    }
    seeds.iter().for_each(|input| try_one(name, run, input, seed));
}

fn try_one(name: &str, run: fn(&[u8]), input: &[u8], seed: u64) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(input))) {
        println!("{name} fails (FUZZ_SEED={seed}) on {}", HEXLOWER.encode(input));
        std::panic::resume_unwind(panic);
    }
}

macro_rules! smoke {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn every_target_is_run() {
            let run_here = [$(stringify!($name)),*];
            assert_eq!(targets::ALL.map(|(name, _)| name), run_here);
        }
    };
}

smoke! {
    discv4_packet, discv4_machine, enr, text,
    rlpx_handshake, rlpx_frames, rlpx_messages, rlpx_multiplex,
    secret_connection, mconnection, tendermint_messages,
}
