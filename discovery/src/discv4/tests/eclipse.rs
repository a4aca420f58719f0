//! What an attacker with many identities gets: no word of ours for what it says, and few of the dials.

use std::collections::BTreeSet;

use super::asking::{let_answer, peers};
use super::*;
use crate::table::ALPHA;

/// What the machine tells a peer that asks for nodes.
fn told(scene: &mut Scene, asker: &Peer) -> Vec<NodeId> {
    scene.hears_find_node(asker, [1; 64]).unwrap();
    let sent = scene.sent();
    let nodes = sent.iter().flat_map(|sent| match &sent.message {
        Message::Neighbors(neighbors) => neighbors.nodes.clone(),
        _ => Vec::new(),
    });
    nodes.map(|node| node.to_record().unwrap().id()).collect()
}

/// Its bootnode is all it knows, and has not answered: nothing is told rather than that. A node that lost its network or has
/// just started would else pass on whatever it was given, and send strangers there.
#[test]
fn hearsay_is_not_passed_on_even_if_nothing_else_is_known() {
    let mut maker = Scene::new();
    let [silent, asker] = peers(&mut maker, 2).try_into().unwrap_or_else(|_| unreachable!());
    let mut scene = Scene::before_refresh(|config| config.bootnodes = vec![silent.record()]);
    scene.machine.handle_timeout(scene.now);
    scene.sent();
    assert!(scene.knows(&silent));
    scene.bond(&asker);
    assert_eq!(told(&mut scene, &asker), []);
    scene.machine.ping(scene.now, &silent.record()).unwrap();
    let ping = scene.sent().into_iter().find(|sent| sent.to == silent.at).unwrap();
    scene.hears_pong(&silent, &ping).unwrap();
    scene.sent();
    assert_eq!(told(&mut scene, &asker), [silent.id()], "it has answered from there");
}

/// As a bootnode, as a seed, as a neighbour, in a ping: whoever claims to be us is left alone.
#[test]
fn we_never_contact_ourselves() {
    let mut maker = Scene::new();
    let us = NodeRecord::new(*maker.secret.public(), "24.7.7.7".parse().unwrap(), 30303, 0).unwrap();
    let friend = peers(&mut maker, 1).remove(0);
    let mut scene = Scene::before_refresh(|config| {
        assert_eq!(config.key, *us.key());
        config.bootnodes = vec![us.clone(), friend.record()];
        let last_pong = Now::read().wall;
        config.seeds = vec![crate::table::Seed { record: us.clone(), last_pong, find_failures: 0, inbound: false }];
    });
    scene.machine.handle_timeout(scene.now);
    scene.machine.find_node(scene.now, &friend.record(), [1; 64]).unwrap();
    for _ in 0..200 {
        for sent in scene.wait(ms(50)) {
            assert_eq!(sent.to, friend.at, "{:?}", sent.message);
            match sent.message {
                Message::Ping(_) => {
                    scene.hears_pong(&friend, &sent).unwrap();
                    scene.hears_ping(&friend).unwrap();
                }
                Message::FindNode(_) => _ = scene.hears_neighbors(&friend, vec![Neighbor::from(&us)]),
                _ => {}
            }
        }
    }
    assert_eq!(scene.machine.table().len(), 1);
    assert!(scene.machine.stats().neighbors_refused > 0);
}

/// Guests are asked what they know only where nobody else is there to be asked: or whoever pings us would lead our lookups.
#[test]
fn a_lookup_does_not_begin_at_guests() {
    let mut scene = Scene::new();
    let guests: Vec<_> = (0..8).map(|n| scene.bonded(&format!("24.6.{n}.1:30303"))).collect();
    let asked_guests = |scene: &mut Scene| {
        let lookup = scene.machine.lookup(scene.now, *guests[0].secret.public().as_bytes()).unwrap();
        let sent = scene.sent();
        scene.machine.cancel_lookup(lookup);
        sent.iter().filter(|sent| guests.iter().any(|guest| guest.at == sent.to)).count()
    };
    assert_eq!(asked_guests(&mut scene), ALPHA, "there is nobody else");
    for n in 0..40 {
        let node = scene.peer(&format!("24.8.{n}.1:30303"));
        _ = scene.machine.table.add_found(scene.now.monotonic, &node.record());
    }
    assert_eq!(asked_guests(&mut scene), 0, "although one is what is looked for");
}

/// Twenty networks are honest. Somebody has forty nodes in one network, all of which answer.
#[test]
fn a_walk_hands_out_two_of_a_network() {
    let mut maker = Scene::new();
    let mut all = peers(&mut maker, 20);
    all.extend((1..=40).map(|n| maker.peer(&format!("23.1.1.{n}:30303"))));
    let bootnodes = all.iter().map(Peer::record).collect();
    let mut scene = Scene::before_refresh(|config| config.bootnodes = bootnodes);
    let (mut honest, mut attackers) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..10 {
        scene.machine.walk(scene.now).unwrap();
        let_answer(&mut scene, &all, &[]);
        for event in scene.events() {
            let Event::LookupDone { closest, .. } = event else { continue };
            for node in closest {
                let is_attacker = node.ip().to_string().starts_with("23.1.1.");
                if is_attacker { &mut attackers } else { &mut honest }.insert(node.id());
            }
        }
    }
    assert_eq!((honest.len(), attackers.len()), (20, 2));
    assert!(scene.machine.stats().candidates_refused > 0);
    // A lookup that somebody asked for is not ruled by that.
    let target = *all[30].secret.public().as_bytes();
    scene.machine.lookup(scene.now, target).unwrap();
    let_answer(&mut scene, &all, &[]);
    let closest = scene.events().into_iter().find_map(|event| match event {
        Event::LookupDone { closest, .. } => Some(closest),
        _ => None,
    });
    assert_eq!(closest.unwrap()[0].id(), all[30].id());
}
