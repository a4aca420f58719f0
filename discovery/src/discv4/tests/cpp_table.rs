//! The machine with the C++ table: its runs become questions, and every packet counts.

use std::collections::BTreeMap;

use super::*;
use crate::table::TableConfig;

fn scene() -> Scene {
    Scene::with(|config| config.table = TableConfig::cpp_ethereum())
}

#[test]
fn every_packet_of_a_known_node_makes_it_the_most_recent() {
    let mut scene = scene();
    let far = |scene: &mut Scene, at| loop {
        let peer = scene.peer(at);
        if scene.machine.id().log_distance(&peer.id()) == 256 {
            scene.bond(&peer);
            return peer;
        }
    };
    let (first, second) = (far(&mut scene, "24.0.1.1:30303"), far(&mut scene, "24.0.2.1:30303"));
    let oldest = |scene: &Scene| scene.machine.table().entries().next().unwrap().record().id();
    assert_eq!(oldest(&scene), first.id());
    scene.hears_find_node(&first, [1; 64]).unwrap();
    assert_eq!(oldest(&scene), second.id());
    scene.hears_ping(&second).unwrap();
    assert_eq!(oldest(&scene), first.id());
    assert!(scene.hears_neighbors(&first, vec![]).is_err());
    assert_eq!(oldest(&scene), first.id(), "not what nobody asked for");
}

#[test]
fn a_run_asks_every_seven_seconds_and_its_finds_are_asked_in_the_next_round() {
    let mut scene = scene();
    let (peer, found) = (scene.bonded("24.0.1.1:30303"), scene.peer("24.0.2.1:30303"));
    let finds = |sent: Vec<Sent>| {
        let find = |sent: Sent| match sent.message {
            Message::FindNode(find) => Some((sent.to, find.target)),
            _ => None,
        };
        sent.into_iter().filter_map(find).collect::<BTreeMap<_, _>>() // late answers are asked for again
    };
    assert!(finds(scene.wait(secs(7))).is_empty());
    let first = finds(scene.wait(ms(200)));
    assert_eq!(first.keys().collect::<Vec<_>>(), [&peer.at]);
    scene.hears_neighbors(&peer, vec![Neighbor::from(&found.record())]).unwrap();
    // Who is asked needs our proof first: nothing goes to the newcomer but pings (one of them is the table's check).
    for ping in scene.wait(ms(60)).into_iter().filter(|sent| sent.to == found.at) {
        scene.hears_pong(&found, &ping).unwrap();
    }
    scene.hears_ping(&found).unwrap();
    let second = finds(scene.wait(ms(200)));
    assert_eq!(second, BTreeMap::from([(found.at, first[&peer.at])]), "the same target");
    scene.hears_neighbors(&found, vec![]).unwrap();
    scene.wait(ms(60));
    let next = finds(scene.wait(ms(7300)));
    assert_eq!(next.keys().collect::<Vec<_>>(), [&peer.at, &found.at], "both, at the start of the next run");
    assert_ne!(next[&peer.at], first[&peer.at]);
}
