//! Random choices from the book: one address to dial, or a part of them all to answer a peer. What an answer costs grows with the answer, not
//! with the book.

use kadwire_wire::address::PeerAddress;
use rand::{RngExt, rngs::StdRng};

use super::{
    buckets::Buckets,
    entry::{Entry, Kind},
};

/// Part of the book in one answer, in percent (CometBFT, `getSelectionPercent`).
const SELECTION_PERCENT: usize = 23;

/// Addresses in one answer at least, if there are as many (CometBFT, `minGetSelection`).
const MIN_SELECTION: usize = 32;

/// Addresses in one answer at most (CometBFT, `maxGetSelection`).
pub(crate) const MAX_SELECTION: usize = 250;

/// Part of a full answer, in percent, that one source's word alone can fill: addresses that it told us first and that we never reached.
const MAX_HEARSAY_PERCENT: usize = 5;

/// The same of a short answer, as soon as ten are reached or there are ten sources.
const MAX_HEARSAY_PERCENT_SHORT: usize = 10;

/// One address to dial. `bias` (0 to 100) is the weight of addresses that we were told of against those that we reached; numbers count by
/// their square roots, so that a flood of new addresses gains little (CometBFT, `PickAddress`). Here the flood of one source does not even
/// count ([`Sources::counted`](super::sources::Sources::counted)), and it is the source that is drawn first, not the bucket.
///
/// Where CometBFT gives up if the side it drew is empty, this takes the other side.
pub(crate) fn pick<'a>(buckets: &'a Buckets, bias: usize, rng: &mut StdRng) -> Option<&'a Entry> {
    let bias = bias.min(100) as f64;
    let new = (buckets.sources().counted() as f64).sqrt() * bias;
    let old = (buckets.old_len() as f64).sqrt() * (100.0 - bias);
    let drawn = if rng.random::<f64>() * (new + old) < old { Kind::Old } else { Kind::New };
    let other = if drawn == Kind::Old { Kind::New } else { Kind::Old };
    let slot = pick_of(buckets, drawn, rng).or_else(|| pick_of(buckets, other, rng))?;
    buckets.slots().get(slot)
}

fn pick_of(buckets: &Buckets, kind: Kind, rng: &mut StdRng) -> Option<usize> {
    if kind == Kind::New {
        return buckets.sources().pick(rng);
    }
    // A random bucket first: an address gains nothing from many others beside it.
    let filled: Vec<&Vec<usize>> = buckets.of_kind(kind).iter().filter(|held| !held.is_empty()).collect();
    if filled.is_empty() {
        return None;
    }
    let held = filled.get(rng.random_range(0..filled.len()))?;
    held.get(rng.random_range(0..held.len())).copied()
}

/// How many of `size` addresses one answer has.
fn selection_size(size: usize) -> usize {
    (size * SELECTION_PERCENT / 100).max(MIN_SELECTION.min(size)).min(MAX_SELECTION)
}

/// A random part of the book: 23 %, from 32 to 250 addresses. First those that we reached; hearsay fills what is left.
pub(crate) fn selection(buckets: &Buckets, rng: &mut StdRng) -> Vec<PeerAddress> {
    answer(buckets, selection_size(buckets.len()), 0, rng)
}

/// As many, `bias` percent of them addresses that we were told of (CometBFT, `GetSelectionWithBias`).
pub(crate) fn selection_with_bias(buckets: &Buckets, bias: usize, rng: &mut StdRng) -> Vec<PeerAddress> {
    let size = selection_size(buckets.len());
    answer(buckets, size, (bias.min(100) * size + 50) / 100, rng)
}

/// At most `size` addresses: `size - hearsay` that we reached, as far as there are, and hearsay for the rest. Many ports of one host, and
/// hearsay of few sources, leave an answer short: what cannot be told from a lie is better not repeated in numbers.
fn answer(buckets: &Buckets, size: usize, hearsay: usize, rng: &mut StdRng) -> Vec<PeerAddress> {
    let proven = buckets.proven().draw(size, rng);
    let wanted = size - proven.len().min(size - hearsay);
    let least = size - wanted + buckets.sources().len().min(wanted);
    let most = (size * MAX_HEARSAY_PERCENT / 100).min(least * MAX_HEARSAY_PERCENT_SHORT / 100).max(1);
    let told = buckets.sources().sample(wanted, most, rng, |slot| buckets.slots()[slot].is_hearsay());
    let reached = size - told.len();
    let slots = proven.into_iter().take(reached).chain(told);
    slots.map(|slot| buckets.slots()[slot].address.clone()).collect()
}
