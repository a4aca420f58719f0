//! Discovery is pulled.

use super::*;

/// A source that counts how often it is asked.
pub(super) struct Wanted {
    asked: Arc<std::sync::atomic::AtomicU8>,
}

impl CandidateSource for Wanted {
    async fn next(&mut self) -> Option<Candidate> {
        sleep(Duration::from_millis(1)).await;
        let n = self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Some(Candidate::new(address(n + 2), Source::Discv4))
    }
}

#[tokio::test(start_paused = true)]
async fn discovery_is_asked_only_while_peers_are_wanted() {
    let world = World::default();
    let others: Vec<_> = (2..30).map(|n| world.dialing(n, [])).collect();
    let asked = Arc::new(std::sync::atomic::AtomicU8::new(0));
    let one = world.node(1, Change { source: Some(Wanted { asked: asked.clone() }), ..Change::default() });
    sleep(Duration::from_secs(10)).await;
    assert_eq!(one.peers().len(), 10, "as many as there are outbound places");
    let found = asked.load(std::sync::atomic::Ordering::Relaxed);
    assert!(found <= 25, "{found} found");
    sleep(Duration::from_secs(600)).await;
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), found, "nobody is wanted, nobody is looked for");
    drop(others);
}

#[test]
fn a_candidate_is_offered_only_while_some_are_wanted_and_there_is_room() {
    let (wanted, demanded) = watch::channel(0);
    let (found, mut taken) = mpsc::channel(1);
    let demand = Demand::new(demanded, found);
    let offer = |n| demand.offer(Candidate::new(address(n), Source::Discv4));
    assert!(!offer(1), "nobody is wanted");
    wanted.send_replace(5);
    assert_eq!([2, 3].map(offer), [true, false]);
    assert_eq!(taken.try_recv().unwrap().address, address(2));
}
