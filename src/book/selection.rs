//! Random choices from the book: one address to dial, or a part of them all to answer a peer.

use kadwire_wire::address::PeerAddress;
use rand::{RngExt, rngs::StdRng, seq::SliceRandom};

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

/// One address to dial. `bias` (0 to 100) is the weight of addresses that we were told of against those that we reached; numbers count by
/// their square roots, so that a flood of new addresses gains little (CometBFT, `PickAddress`).
///
/// Where CometBFT gives up if the side it drew is empty, this takes the other side.
pub(crate) fn pick<'a>(buckets: &'a Buckets, bias: usize, rng: &mut StdRng) -> Option<&'a Entry> {
    let bias = bias.min(100) as f64;
    let new = ((buckets.len() - buckets.old_len()) as f64).sqrt() * bias;
    let old = (buckets.old_len() as f64).sqrt() * (100.0 - bias);
    let drawn = if rng.random::<f64>() * (new + old) < old { Kind::Old } else { Kind::New };
    let other = if drawn == Kind::Old { Kind::New } else { Kind::Old };
    pick_of(buckets, drawn, rng).or_else(|| pick_of(buckets, other, rng))
}

/// A random bucket first: an address gains nothing from many others beside it.
fn pick_of<'a>(buckets: &'a Buckets, kind: Kind, rng: &mut StdRng) -> Option<&'a Entry> {
    let filled: Vec<&Vec<usize>> = buckets.of_kind(kind).iter().filter(|held| !held.is_empty()).collect();
    if filled.is_empty() {
        return None;
    }
    let held = filled.get(rng.random_range(0..filled.len()))?;
    buckets.entries().get(*held.get(rng.random_range(0..held.len()))?)
}

/// How many of `size` addresses one answer has.
fn selection_size(size: usize) -> usize {
    (size * SELECTION_PERCENT / 100).max(MIN_SELECTION.min(size)).min(MAX_SELECTION)
}

/// A random part of the book: 23 %, from 32 to 250 addresses. Only what may be relayed.
pub(crate) fn selection(buckets: &Buckets, rng: &mut StdRng) -> Vec<PeerAddress> {
    choose(buckets, selection_size(buckets.len()), |_| true, rng)
}

/// As many, `bias` percent of them addresses that we were told of, as far as there are enough that we reached (CometBFT,
/// `GetSelectionWithBias`).
pub(crate) fn selection_with_bias(buckets: &Buckets, bias: usize, rng: &mut StdRng) -> Vec<PeerAddress> {
    let size = selection_size(buckets.len());
    let asked = (bias.min(100) * size + 50) / 100;
    let new = asked.max(size.saturating_sub(buckets.old_len()));
    let mut chosen = choose(buckets, new, |entry| entry.kind == Kind::New, rng);
    chosen.extend(choose(buckets, size - chosen.len(), |entry| entry.kind == Kind::Old, rng));
    chosen
}

fn choose(buckets: &Buckets, size: usize, from: impl Fn(&Entry) -> bool, rng: &mut StdRng) -> Vec<PeerAddress> {
    let may = |entry: &Entry| from(entry) && entry.is_relayable();
    let mut indexes: Vec<u32> =
        buckets.entries().iter().enumerate().filter(|(_, entry)| may(entry)).map(|(at, _)| at as u32).collect();
    let (chosen, _) = indexes.partial_shuffle(rng, size);
    chosen.iter().filter_map(|at| Some(buckets.entries().get(*at as usize)?.address.clone())).collect()
}
