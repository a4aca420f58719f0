//! When to check which node: a fast list for nodes that have moved or missed a check, and a slow one for the others
//! (go-ethereum `table_reval.go`); and one for those that have never answered, which go-ethereum has on its fast list.
//! It only picks; the table acts on the outcome. Without a pause for it the slow list is never due: then the table
//! says itself which old node to check ([`Revalidation::PingOldest`](super::Revalidation)).
//!
//! A list is a queue, first whom nobody has heard of for longest (as in Kademlia's paper). go-ethereum draws at random, so that
//! some wait for several times as long as others, and the dead stay twice as long for the same number of pings.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use super::after;
use crate::key::NodeId;

/// The list that decides how soon a node is checked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    New,
    Fast,
    Slow,
}

/// About how long nodes wait for their first check: of a whole table of hearsay, nine tenths are verified in ten
/// seconds. With one check each 1.5 s it takes go-ethereum seven minutes. Nodes that were alive are never hurried: a
/// network that is away for half a minute must not cost the whole table.
const FIRST_CHECK_WITHIN: Duration = Duration::from_secs(3);

/// The lists and the checks under way.
#[derive(Debug)]
pub(crate) struct CheckLists {
    new: List,
    fast: List,
    slow: List,
    active: Vec<NodeId>,
}

impl CheckLists {
    /// `fast` and `slow` are the longest pauses between two checks of a list.
    pub(crate) fn new(fast: Duration, slow: Option<Duration>) -> CheckLists {
        CheckLists {
            new: List { within: Some(FIRST_CHECK_WITHIN), ..List::new(Some(fast)) },
            fast: List::new(Some(fast)),
            slow: List::new(slow),
            active: Vec::new(),
        }
    }

    /// Puts a node at the end of a list, taking it off the others.
    pub(crate) fn put(&mut self, now: Instant, id: NodeId, pace: Pace, rng: &mut StdRng) {
        let (to, others) = match pace {
            Pace::New => (&mut self.new, [&mut self.fast, &mut self.slow]),
            Pace::Fast => (&mut self.fast, [&mut self.new, &mut self.slow]),
            Pace::Slow => (&mut self.slow, [&mut self.new, &mut self.fast]),
        };
        others.into_iter().for_each(|list| list.remove(&id));
        to.push(now, id, rng);
    }

    pub(crate) fn remove(&mut self, id: &NodeId) {
        [&mut self.new, &mut self.fast, &mut self.slow].into_iter().for_each(|list| list.remove(id));
        // A check under way stays in `active` until its outcome, so that the id is not checked twice at a time.
    }

    /// A node has answered something: its turn comes again after all others'.
    pub(crate) fn heard(&mut self, id: &NodeId) {
        self.slow.move_to_end(id);
    }

    /// The nodes to check now: at most one of each list, neither under way already nor refused by `wants`.
    pub(crate) fn run(
        &mut self,
        now: Instant,
        rng: &mut StdRng,
        mut wants: impl FnMut(&NodeId) -> bool,
    ) -> [Option<NodeId>; 3] {
        let mut picked = [None; 3];
        for (list, pick) in [&mut self.new, &mut self.fast, &mut self.slow].into_iter().zip(&mut picked) {
            if list.next.is_some_and(|next| next <= now) {
                *pick = list.members.iter().find(|id| !self.active.contains(id) && wants(id)).copied();
                pick.iter().for_each(|id| _ = list.move_to_end(id));
                self.active.extend(*pick);
                list.schedule(now, rng);
            }
        }
        picked
    }

    /// A check of `id` begins that the lists did not ask for; `false` if one is under way.
    pub(crate) fn begin(&mut self, id: NodeId) -> bool {
        let is_new = !self.active.contains(&id);
        self.active.extend(is_new.then_some(id));
        is_new
    }

    /// Checks that await their outcome.
    pub(crate) fn under_way(&self) -> usize {
        self.active.len()
    }

    /// The check of `id` has ended; `false` if none was under way.
    pub(crate) fn finish(&mut self, id: &NodeId) -> bool {
        let Some(at) = self.active.iter().position(|active| active == id) else { return false };
        self.active.swap_remove(at);
        true
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        [self.new.next, self.fast.next, self.slow.next].into_iter().flatten().min()
    }

    #[cfg(test)]
    pub(crate) fn pace(&self, id: &NodeId) -> Option<Pace> {
        let lists = [(&self.new, Pace::New), (&self.fast, Pace::Fast), (&self.slow, Pace::Slow)];
        let mut found = lists.into_iter().filter(|(list, _)| list.members.contains(id)).map(|(_, pace)| pace);
        let pace = found.next();
        assert_eq!(found.next(), None, "on two lists");
        pace
    }
}

#[derive(Debug)]
struct List {
    /// Longest pause between two checks; without one the list is never due.
    interval: Option<Duration>,
    /// If set: pauses are shortened so that the nodes now on the list take about this time.
    within: Option<Duration>,
    next: Option<Instant>,
    members: VecDeque<NodeId>,
}

impl List {
    fn new(interval: Option<Duration>) -> List {
        List { interval, within: None, next: None, members: VecDeque::new() }
    }

    fn push(&mut self, now: Instant, id: NodeId, rng: &mut StdRng) {
        if self.move_to_end(&id) {
            return;
        }
        self.members.push_back(id);
        if self.next.is_none() {
            self.schedule(now, rng);
        }
    }

    /// `false` if it is not on the list.
    fn move_to_end(&mut self, id: &NodeId) -> bool {
        let found = self.position(id).and_then(|at| self.members.remove(at));
        self.members.extend(found);
        found.is_some()
    }

    fn position(&self, id: &NodeId) -> Option<usize> {
        self.members.iter().position(|member| member == id)
    }

    fn remove(&mut self, id: &NodeId) {
        if let Some(at) = self.position(id) {
            self.members.remove(at);
        }
        if self.members.is_empty() {
            self.next = None;
        }
    }

    fn schedule(&mut self, now: Instant, rng: &mut StdRng) {
        let Some(interval) = self.interval else { return };
        let members = u32::try_from(self.members.len()).unwrap_or(u32::MAX).max(1);
        // Pauses are half of this on average.
        let share = self.within.and_then(|within| within.saturating_mul(2).checked_div(members));
        let longest = share.map_or(interval, |share| share.min(interval));
        let pause = rng.random_range(Duration::ZERO..longest.max(Duration::from_nanos(1)));
        self.next = Some(after(now, pause));
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::time::Now;

    const FAST: Duration = Duration::from_secs(3);
    const SLOW: Duration = Duration::from_secs(9);

    fn id(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    /// Runs for `span` and returns (time since start, id) of every check, each of which ends at once.
    fn checks(lists: &mut CheckLists, start: Instant, span: Duration, rng: &mut StdRng) -> Vec<(Duration, NodeId)> {
        let mut done = Vec::new();
        while let Some(now) = lists.next().filter(|next| *next <= start + span) {
            for id in lists.run(now, rng, |_| true).into_iter().flatten() {
                assert!(lists.finish(&id));
                done.push((now - start, id));
            }
        }
        done
    }

    /// The one node to check now, if any.
    fn picked(lists: &mut CheckLists, now: Instant, rng: &mut StdRng) -> Option<NodeId> {
        lists.run(now, rng, |_| true).into_iter().flatten().next()
    }

    #[test]
    fn an_empty_list_never_wakes() {
        let (start, mut rng) = (Now::read().monotonic, StdRng::seed_from_u64(1));
        let mut lists = CheckLists::new(FAST, Some(SLOW));
        assert_eq!(lists.next(), None);
        lists.put(start, id(1), Pace::Fast, &mut rng);
        assert!(lists.next().is_some());
        lists.remove(&id(1));
        assert_eq!(lists.next(), None);
    }

    /// Pauses are uniform in [0, interval), so the mean is half of it: 1.5 s and 4.5 s.
    #[test]
    fn the_slow_list_is_three_times_slower() {
        let (start, mut rng) = (Now::read().monotonic, StdRng::seed_from_u64(2));
        for (pace, interval) in [(Pace::Fast, FAST), (Pace::Slow, SLOW)] {
            let mut lists = CheckLists::new(FAST, Some(SLOW));
            (1..=16).for_each(|n| lists.put(start, id(n), pace, &mut rng));
            let span = interval * 500;
            let count = checks(&mut lists, start, span, &mut rng).len();
            assert!((900..1100).contains(&count), "{pace:?}: {count} checks in 500 intervals");
        }
    }

    /// A table full of hearsay is verified in seconds, and a single new node as soon as any.
    #[test]
    fn nodes_that_never_answered_are_checked_sooner_the_more_there_are() {
        let (start, mut rng) = (Now::read().monotonic, StdRng::seed_from_u64(6));
        let mut lists = CheckLists::new(FAST, Some(SLOW));
        (1..=200).for_each(|n| lists.put(start, id(n), Pace::New, &mut rng));
        let count = checks(&mut lists, start, FIRST_CHECK_WITHIN, &mut rng).len();
        assert!((120..280).contains(&count), "{count} checks of 200");
        (2..=200).for_each(|n| lists.remove(&id(n)));
        let count = checks(&mut lists, start + FIRST_CHECK_WITHIN, FAST * 500, &mut rng).len();
        assert!((900..1100).contains(&count), "{count} checks in 500 intervals");
    }

    #[test]
    fn every_node_gets_its_turn() {
        let (start, mut rng) = (Now::read().monotonic, StdRng::seed_from_u64(3));
        let mut lists = CheckLists::new(FAST, Some(SLOW));
        (1..=16).for_each(|n| lists.put(start, id(n), Pace::Slow, &mut rng));
        let mut seen: Vec<_> = checks(&mut lists, start, SLOW * 200, &mut rng).into_iter().map(|(_, id)| id).collect();
        seen.truncate(16);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 16, "each once, before any has its second");
    }

    #[test]
    fn who_has_answered_something_is_checked_last() {
        let (start, mut rng) = (Now::read().monotonic, StdRng::seed_from_u64(3));
        let mut lists = CheckLists::new(FAST, Some(SLOW));
        (1..=3).for_each(|n| lists.put(start, id(n), Pace::Slow, &mut rng));
        lists.heard(&id(1));
        let order: Vec<_> = checks(&mut lists, start, SLOW * 20, &mut rng).into_iter().map(|(_, id)| id).collect();
        assert_eq!(order[..3], [id(2), id(3), id(1)]);
    }

    #[test]
    fn a_node_is_checked_once_at_a_time() {
        let (start, mut rng) = (Now::read().monotonic, StdRng::seed_from_u64(4));
        let mut lists = CheckLists::new(FAST, Some(SLOW));
        lists.put(start, id(1), Pace::Fast, &mut rng);
        assert_eq!(picked(&mut lists, start + FAST, &mut rng), Some(id(1)));
        assert_eq!(picked(&mut lists, start + FAST * 3, &mut rng), None, "its check is under way");
        // Removed and added again meanwhile: still the same check.
        lists.remove(&id(1));
        lists.put(start + FAST * 3, id(1), Pace::Fast, &mut rng);
        assert_eq!(picked(&mut lists, start + FAST * 5, &mut rng), None);
        assert!(lists.finish(&id(1)));
        assert!(!lists.finish(&id(1)));
        assert_eq!(picked(&mut lists, start + FAST * 7, &mut rng), Some(id(1)));
    }

    #[test]
    fn moving_between_lists_leaves_no_trace_on_the_other() {
        let (start, mut rng) = (Now::read().monotonic, StdRng::seed_from_u64(5));
        let mut lists = CheckLists::new(FAST, Some(SLOW));
        lists.put(start, id(1), Pace::Fast, &mut rng);
        lists.put(start, id(1), Pace::Slow, &mut rng);
        assert_eq!(lists.pace(&id(1)), Some(Pace::Slow));
        lists.put(start, id(1), Pace::Slow, &mut rng);
        lists.remove(&id(1));
        assert_eq!(lists.pace(&id(1)), None);
    }
}
