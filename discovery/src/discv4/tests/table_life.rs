//! How nodes come into the table, prove themselves again, and are found again: the machine around its table.

use super::asking::{let_answer, peers, resolved};
use super::*;

fn bootnode(scene: &mut Scene) -> Peer {
    scene.peer("24.9.9.9:30303")
}

/// go-ethereum `trackRequest`: what a lookup hears of is added to the table. What its owner asks is its owner's business.
#[test]
fn what_a_lookup_hears_of_enters_the_table_and_what_its_owner_asks_for_does_not() {
    let mut scene = Scene::new();
    let peers = peers(&mut scene, 5);
    scene.bond(&peers[0]);
    scene.machine.find_node(scene.now, &peers[0].record(), [1; 64]).unwrap();
    let_answer(&mut scene, &peers[..1], &[]);
    assert_eq!(scene.machine.table().len(), 1);
    scene.hears_ping(&peers[0]).unwrap();
    scene.machine.lookup(scene.now, [1; 64]).unwrap();
    let mut answered = false;
    while !answered {
        for sent in scene.wait(ms(10)) {
            if sent.message.kind() == Kind::FindNode && sent.to == peers[0].at {
                let heard = peers.iter().map(|peer| Neighbor::from(&peer.record())).collect();
                answered |= scene.hears_neighbors(&peers[0], heard).is_ok();
            }
        }
    }
    scene.wait(ms(50));
    assert_eq!(scene.machine.table().len(), 5);
    assert!(
        scene
            .machine
            .table()
            .entries()
            .filter(|entry| entry.is_live())
            .all(|entry| *entry.record() == peers[0].record())
    );
}

/// The check of an endpoint was under way when its node moved. A pong from there proves that it still is there; a missing
/// one says nothing of the new place, which has to prove itself anyway.
#[test]
fn a_check_of_the_old_endpoint_says_nothing_of_the_new() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:4444");
    let place = |scene: &Scene| {
        let entry = scene.machine.table().get(&peer.id()).expect("still there");
        (entry.record().endpoint(), entry.is_live())
    };
    let check = |scene: &mut Scene| loop {
        for sent in scene.wait(ms(10)) {
            match sent.message.kind() {
                Kind::Ping => return sent,
                // A refresh: answered, so that no ping follows to prove ourselves.
                _ => _ = scene.hears_neighbors(&peer, Vec::new()),
            }
        }
    };
    let first = check(&mut scene);
    let moved = peer.moved("24.0.1.1:5555");
    scene.hears_ping(&moved).unwrap();
    assert_eq!(place(&scene), (moved.at, false));
    scene.hears_pong(&peer, &first).unwrap();
    assert_eq!(place(&scene), (peer.at, true));

    // The same without the pong.
    let misses = |scene: &Scene| scene.machine.table().get(&peer.id()).unwrap().checks();
    let before = misses(&scene);
    assert_eq!(check(&mut scene).to, peer.at);
    scene.hears_ping(&moved).unwrap();
    scene.wait(secs(1));
    assert_eq!((place(&scene), misses(&scene)), ((moved.at, false), before));
}

/// A node of before EIP-868: nobody has its record, but the network knows where it is.
#[test]
fn resolve_finds_a_moved_node_that_has_no_record() {
    let mut scene = Scene::new();
    let peers = peers(&mut scene, 10);
    scene.bond(&peers[0]);
    let before = peers[7].moved("24.9.9.9:30303").record();
    scene.machine.resolve(scene.now, &before).unwrap();
    for _ in 0..1000 {
        for sent in scene.wait(ms(10)) {
            let Some(peer) = peers.iter().find(|peer| peer.at == sent.to) else { continue };
            match sent.message.kind() {
                Kind::Ping => {
                    scene.hears_pong(peer, &sent).unwrap();
                    scene.hears_ping(peer).unwrap();
                }
                Kind::FindNode => {
                    let all = peers.iter().map(|peer| Neighbor::from(&peer.record())).collect();
                    _ = scene.hears_neighbors(peer, all);
                }
                _ => {}
            }
        }
    }
    let found = resolved(&mut scene).unwrap();
    assert_eq!((found.endpoint(), found.enr()), (peers[7].at, None));
}

/// Whoever dials pulls nodes each second, for as long as there are none. The bootnode is asked with the back-off of the
/// refresh all the same: some dozen times in ten minutes, with what is repeated. Without that it would be 1,794 pings.
#[test]
fn a_walk_does_not_hurry_an_empty_table() {
    let mut scene = Scene::new();
    let silent = bootnode(&mut scene);
    let mut scene = Scene::with(|config| config.bootnodes = vec![silent.record()]);
    let mut pings = 0;
    for _ in 0..600 {
        scene.machine.walk(scene.now).unwrap();
        pings += scene.wait(secs(1)).iter().filter(|sent| sent.message.kind() == Kind::Ping).count();
    }
    assert!((12..400).contains(&pings), "{pings} pings in ten minutes");
}

/// It pinged us before our first refresh was done, and was not taken. Its next question brings it in, and alive, since it has just answered
/// our ping; but a question moves nobody, since it could be replayed.
#[test]
fn who_was_turned_away_comes_in_with_its_next_question() {
    let mut scene = Scene::before_refresh(|_| {});
    let peer = scene.bonded("24.0.1.1:30303");
    scene.machine.handle_timeout(scene.now);
    assert!(!scene.knows(&peer));
    scene.hears_find_node(&peer.moved("24.0.1.1:6666"), [1; 64]).unwrap();
    assert!(!scene.knows(&peer), "nobody has proven to be at that port");
    scene.hears_find_node(&peer, [2; 64]).unwrap();
    scene.hears_find_node(&peer.moved("24.0.1.1:6666"), [3; 64]).unwrap();
    let entry = scene.machine.table().get(&peer.id()).unwrap();
    assert!(entry.is_live() && entry.is_inbound());
    assert_eq!(entry.record().endpoint(), peer.at);
}
