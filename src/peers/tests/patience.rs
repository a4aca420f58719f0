//! Peers that are not there cost next to nothing (GHSA-cpqw-5g6w-h8rr: a hot loop of retries).

use super::{Rounds, secs};
use crate::{
    dial::tests::{address, id},
    peers::Slots,
};

const DEAD: u32 = 100;

/// Five hours with a hundred persistent peers of which none answers: how often each is dialed, and how often the machine wants to be woken.
#[test]
fn a_hundred_dead_persistent_peers_are_dialed_every_five_minutes_each() {
    let mut rounds = Rounds::with(Slots::default(), |config| config.persistent = (1..=DEAD).map(address).collect());
    let (end, mut wakes, mut dials, mut by_hour) = (rounds.now.after(secs(5 * 3_600)), 0_u64, 0, Vec::new());
    let mut hour = rounds.now.after(secs(3_600));
    loop {
        for n in 1..=DEAD {
            while rounds.manager.is_dialing(&id(n)) {
                rounds = rounds.failed([n]);
                dials += 1;
            }
        }
        let due = rounds.manager.poll_timeout().expect("they are dialed for ever");
        if due >= hour.monotonic {
            by_hour.push(std::mem::take(&mut dials));
            hour = hour.after(secs(3_600));
        }
        if due >= end.monotonic {
            break;
        }
        let wait = due - rounds.now.monotonic;
        rounds = rounds.after(wait);
        wakes += 1;
    }
    println!("dials by hour: {by_hour:?}, wakes: {wakes}");
    let each = |dials: u32| f64::from(dials) / f64::from(DEAD);
    assert!((8.0..=20.0).contains(&each(by_hour[0])), "2, 4 … 256 s: {by_hour:?}");
    assert!(by_hour[1..].iter().all(|dials| (11.0..=13.0).contains(&each(*dials))), "every five minutes: {by_hour:?}");
    // One timer for each dial, at most.
    assert!(wakes <= u64::from(by_hour.iter().sum::<u32>()), "{wakes} wakes");
}
