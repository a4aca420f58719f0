//! What comes in (spec sheet discv4 §4 and §6).

use super::*;

// --- Ping ---

#[test]
fn a_new_identity_gets_one_pong_and_one_ping_and_nothing_else() {
    let mut scene = Scene::new();
    let peer = scene.peer("24.0.1.1:4444");
    scene.hears_ping(&peer).unwrap();
    assert_eq!(scene.sent_kinds(), [Kind::Pong, Kind::Ping]);
    assert!(scene.wait(ms(200)).is_empty());
}

#[test]
fn the_pong_goes_to_the_source_and_mirrors_it_with_the_tcp_port_of_from() {
    let mut scene = Scene::new();
    let peer = scene.peer("24.0.1.1:4444");
    let expiration = scene.expiration();
    // What it says of addresses is ignored.
    let from = Endpoint::new("192.0.2.0:1".parse().unwrap(), 5555);
    let to = Endpoint::new("192.0.2.9:1".parse().unwrap(), 1);
    let ping = Ping { version: 4, from, to, expiration, enr_seq: Some(3) };
    scene.hears_hashed(&peer, [9; 32], Message::Ping(ping)).unwrap();
    let pong = scene.sent().remove(0);
    assert_eq!(pong.to, peer.at);
    let Message::Pong(pong) = pong.message else { panic!("no pong first") };
    assert_eq!(pong.to, Endpoint::new(peer.at, 5555));
    assert_eq!(pong.ping_hash, [9; 32]);
    assert_eq!(pong.expiration, scene.expiration());
    assert_eq!(pong.enr_seq, None, "we have no record yet");
}

#[test]
fn our_pings_and_pongs_carry_the_sequence_number_of_our_record() {
    let mut scene = Scene::new();
    let record = scene.machine.local_content().builder(77).sign(&scene.secret).unwrap();
    scene.machine.set_local_record(record);
    let peer = scene.peer("24.0.1.1:4444");
    scene.hears_ping(&peer).unwrap();
    let sent = scene.sent();
    let (Message::Pong(pong), Message::Ping(ping)) = (&sent[0].message, &sent[1].message) else { panic!("{sent:?}") };
    assert_eq!((pong.enr_seq, ping.enr_seq), (Some(77), Some(77)));
    assert_eq!(ping.from, Endpoint::new("24.0.0.1:30303".parse().unwrap(), 30304));
    assert_eq!(ping.to, Endpoint::new(peer.at, 0));
}

#[test]
fn nobody_enters_the_table_before_it_has_answered_our_ping() {
    let mut scene = Scene::new();
    let peer = scene.peer("24.0.1.1:4444");
    scene.hears_ping(&peer).unwrap();
    let ping = scene.sent().remove(1);
    assert!(!scene.knows(&peer));
    scene.hears_pong(&peer, &ping).unwrap();
    assert!(scene.knows(&peer));
    let entry = scene.machine.table().get(&peer.id()).unwrap();
    assert_eq!((entry.record().endpoint(), entry.record().tcp()), (peer.at, 30303));
    assert!(entry.is_live(), "it has just answered");
    let store = Event::Store { record: peer.record(), checks: 1, find_failures: 0, inbound: true };
    assert_eq!(scene.events(), [Event::NodeAdded(peer.record()), store]);
}

#[test]
fn nobody_enters_the_table_by_itself_before_the_first_refresh() {
    let mut scene = Scene::before_refresh(|_| {});
    let peer = scene.bonded("24.0.1.1:4444");
    assert!(!scene.knows(&peer));
    scene.machine.handle_timeout(scene.now);
    scene.hears_ping(&peer).unwrap();
    assert!(scene.knows(&peer), "its proof still counts");
}

#[test]
fn a_proven_node_gets_a_pong_and_no_ping_back_for_24_hours() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:4444");
    scene.hears_ping(&peer).unwrap();
    assert_eq!(scene.sent_kinds(), [Kind::Pong]);
    scene.now = scene.now.after(secs(24 * 3600 - 1));
    scene.hears_ping(&peer).unwrap();
    assert_eq!(scene.sent_kinds(), [Kind::Pong]);
    scene.now = scene.now.after(secs(1));
    scene.hears_ping(&peer).unwrap();
    assert_eq!(scene.sent_kinds(), [Kind::Pong, Kind::Ping]);
}

#[test]
fn a_proven_node_may_change_its_port_and_is_checked_there() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:4444");
    let moved = peer.moved("24.0.1.1:5555");
    scene.hears_ping(&moved).unwrap();
    assert_eq!(scene.sent_kinds(), [Kind::Pong], "the proof is of id and address");
    let entry = scene.machine.table().get(&peer.id()).unwrap();
    assert_eq!((entry.record().endpoint(), entry.is_live()), (moved.at, false));
    assert!(scene.hears_find_node(&moved, [1; 64]).is_ok());
}

#[test]
fn expirations_are_checked_to_the_second_and_an_hour_ahead() {
    let mut scene = Scene::new();
    let peer = scene.peer("24.0.1.1:4444");
    let seconds = scene.now.unix_seconds();
    for (expiration, expected) in [
        (seconds - 1, Err(Rejected::Expired)),
        (0, Err(Rejected::Expired)),
        (seconds, Ok(())),
        (seconds + 3600, Ok(())),
        (seconds + 3601, Err(Rejected::TooFarAhead)),
        // What go-ethereum's test suite sends as "in the past".
        ((seconds + 20).wrapping_neg(), Err(Rejected::TooFarAhead)),
        (u64::MAX, Err(Rejected::TooFarAhead)),
    ] {
        let Message::Ping(ping) = scene.ping(&peer) else { unreachable!() };
        let result = scene.hears(&peer, Message::Ping(Ping { expiration, ..ping }));
        assert_eq!(result, expected, "{expiration} at {seconds}");
    }
}

#[test]
fn our_own_packets_are_dropped() {
    let mut scene = Scene::new();
    let me = Peer { secret: scene.secret.clone(), at: "24.0.1.1:4444".parse().unwrap() };
    assert_eq!(scene.hears_ping(&me), Err(Rejected::OwnKey));
    assert!(scene.sent().is_empty());
}

#[test]
fn ipv4_mapped_sources_are_ipv4() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:4444");
    let mapped = peer.moved("[::ffff:24.0.1.1]:4444");
    assert!(scene.hears_find_node(&mapped, [1; 64]).is_ok());
    assert_eq!(scene.sent_one(Kind::Neighbors).to, peer.at);
}

// --- Pong ---

#[test]
fn pongs_must_match_id_address_and_token_of_a_ping_under_way() {
    let mut scene = Scene::new();
    let (peer, other) = (scene.peer("24.0.1.1:4444"), scene.peer("24.0.1.1:4444"));
    scene.hears_ping(&peer).unwrap();
    let ping = scene.sent().remove(1);
    let wrong_token = Sent { hash: [0; 32], ..ping.clone() };
    assert_eq!(scene.hears_pong(&peer, &wrong_token), Err(Rejected::Unsolicited), "token");
    assert_eq!(scene.hears_pong(&other, &ping), Err(Rejected::Unsolicited), "id");
    assert_eq!(scene.hears_pong(&peer.moved("24.0.1.2:4444"), &ping), Err(Rejected::Unsolicited), "address");
    assert_eq!(scene.hears_find_node(&peer, [1; 64]), Err(Rejected::NoEndpointProof));
    assert_eq!(scene.hears_pong(&peer, &ping), Ok(()));
    assert_eq!(scene.hears_pong(&peer, &ping), Err(Rejected::Unsolicited), "twice");
}

#[test]
fn a_pong_from_another_port_is_accepted() {
    let mut scene = Scene::new();
    let peer = scene.peer("24.0.1.1:4444");
    scene.hears_ping(&peer).unwrap();
    let ping = scene.sent().remove(1);
    assert_eq!(scene.hears_pong(&peer.moved("24.0.1.1:5555"), &ping), Ok(()));
}

#[test]
fn a_late_pong_is_unsolicited() {
    let mut scene = Scene::new();
    let peer = scene.peer("24.0.1.1:4444");
    scene.hears_ping(&peer).unwrap();
    let ping = scene.sent().remove(1);
    scene.wait(secs(2));
    assert_eq!(scene.hears_pong(&peer, &ping), Err(Rejected::Unsolicited));
    assert!(!scene.knows(&peer));
}

#[test]
fn an_expired_pong_proves_nothing() {
    let mut scene = Scene::new();
    let peer = scene.peer("24.0.1.1:4444");
    scene.hears_ping(&peer).unwrap();
    let ping = scene.sent().remove(1);
    let Message::Pong(pong) = scene.pong_to(&ping, None) else { unreachable!() };
    let expiration = scene.now.unix_seconds() - 1;
    assert_eq!(scene.hears(&peer, Message::Pong(Pong { expiration, ..pong })), Err(Rejected::Expired));
    assert_eq!(scene.hears_find_node(&peer, [1; 64]), Err(Rejected::NoEndpointProof));
}

// --- FindNode ---

#[test]
fn find_node_needs_a_proof_of_this_id_at_this_address() {
    let mut scene = Scene::new();
    let stranger = scene.peer("24.0.9.9:4444");
    assert_eq!(scene.hears_find_node(&stranger, [1; 64]), Err(Rejected::NoEndpointProof), "nothing proven");
    let peer = scene.bonded("24.0.1.1:4444");
    let (neighbor, elsewhere) = (scene.peer("24.0.1.1:4444"), peer.moved("24.0.9.9:4444"));
    assert_eq!(scene.hears_find_node(&neighbor, [1; 64]), Err(Rejected::NoEndpointProof), "another id");
    assert_eq!(scene.hears_find_node(&elsewhere, [1; 64]), Err(Rejected::NoEndpointProof), "another address");
    assert!(scene.sent().is_empty(), "and nothing is sent, not even a ping");
    assert_eq!(scene.hears_find_node(&peer, [1; 64]), Ok(()));
}

#[test]
fn a_findnode_that_nothing_is_known_for_gets_one_empty_answer() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:4444");
    scene.hears_find_node(&peer, [1; 64]).unwrap();
    let Message::Neighbors(answer) = scene.sent_one(Kind::Neighbors).message else { unreachable!() };
    assert!(answer.nodes.is_empty(), "the asker itself is no news to it");
}

#[test]
fn the_sixteen_closest_come_in_datagrams_of_twelve_and_four() {
    let mut scene = Scene::new();
    let peers: Vec<_> = (0..30).map(|n| scene.bonded(&format!("24.0.{n}.1:30303"))).collect();
    let known: Vec<_> = scene.machine.table().entries().map(|entry| entry.record().clone()).collect();
    assert!(known.len() > 17);
    let target = [5; 64];
    let asker = scene.bonded("24.0.99.1:30303");
    scene.hears_find_node(&asker, target).unwrap();
    let answers: Vec<_> = scene
        .sent()
        .into_iter()
        .map(|sent| match sent.message {
            Message::Neighbors(answer) => answer.nodes,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [12, 4]);
    let place = NodeId::of_target(&target);
    let mut expected: Vec<_> = known.iter().map(|node| (place.distance(&node.id()), Neighbor::from(node))).collect();
    expected.sort_by_key(|(distance, _)| *distance);
    let mut expected: Vec<_> = expected.into_iter().take(16).map(|(_, neighbor)| neighbor).collect();
    expected.sort_by_key(|neighbor| neighbor.key); // whatever the target, so that answers repeat
    assert_eq!(answers.concat(), expected);
    assert!(peers.len() >= 30);
}

/// Targets with the same nodes near them have the very same answer for 10 s, so that it need not be signed again.
#[test]
fn answers_repeat_for_ten_seconds_and_last_for_twenty_at_least() {
    let mut scene = Scene::new();
    let _known: Vec<_> = (0..10).map(|n| scene.bonded(&format!("24.0.{n}.1:30303"))).collect();
    let askers = [scene.bonded("24.1.1.1:30303"), scene.bonded("24.1.2.1:30303")];
    let mut answers = std::collections::BTreeMap::new();
    for n in 0..30 {
        scene.hears_find_node(&askers[0], [n; 64]).unwrap();
        let Message::Neighbors(answer) = scene.sent_one(Kind::Neighbors).message else { unreachable!() };
        let ahead = answer.expiration - scene.now.unix_seconds();
        assert!((20..=30).contains(&ahead), "{ahead} s ahead");
        assert_eq!(answer.nodes.len(), 11);
        answers.entry(answer.expiration).or_insert_with(Vec::new).push(answer);
        scene.now = scene.now.after(Duration::from_secs(1));
    }
    assert!((3..=4).contains(&answers.len()), "30 s have parts of 10 s");
    assert!(answers.values().all(|same| same.len() <= 10 && same.iter().all(|answer| *answer == same[0])));
}

#[test]
fn relayed_nodes_obey_the_relay_rule_for_the_asker() {
    let mut scene = Scene::with(|config| config.endpoint.explicit_ips.clear());
    for at in ["127.0.0.2:30303", "192.168.1.1:30303", "24.0.1.1:30303", "24.0.2.1:80"] {
        scene.bonded(at);
    }
    for (asker, expected) in [
        ("24.0.9.9:30303", vec!["24.0.1.1"]),
        ("192.168.1.9:30303", vec!["192.168.1.1", "24.0.1.1", "24.0.9.9"]),
        ("127.0.0.9:30303", vec!["127.0.0.2", "192.168.1.1", "192.168.1.9", "24.0.1.1", "24.0.9.9"]),
    ] {
        let asker = scene.bonded(asker);
        scene.hears_find_node(&asker, [1; 64]).unwrap();
        let Message::Neighbors(answer) = scene.sent_one(Kind::Neighbors).message else { unreachable!() };
        let mut ips: Vec<_> = answer.nodes.iter().map(|node| node.ip.to_string()).collect();
        ips.sort();
        assert_eq!(ips, expected, "to {}", asker.at);
    }
}

#[test]
fn nodes_that_do_not_answer_are_not_relayed_while_others_do() {
    let mut scene = Scene::new();
    let (alive, asker) = (scene.bonded("24.0.1.1:30303"), scene.bonded("24.0.2.1:30303"));
    let moved = asker.moved("24.0.2.1:30304");
    let silent = scene.bonded("24.0.3.1:30303").moved("24.0.3.1:1025");
    scene.hears_ping(&silent).unwrap(); // now at an endpoint that has not answered
    scene.sent();
    scene.hears_find_node(&moved, [1; 64]).unwrap();
    let Message::Neighbors(answer) = scene.sent_one(Kind::Neighbors).message else { unreachable!() };
    assert_eq!(answer.nodes, [Neighbor::from(&alive.record())]);
}

// --- Neighbors ---

/// The machine asks a bonded peer for neighbours.
fn asked(scene: &mut Scene) -> Peer {
    let peer = scene.bonded("24.0.1.1:30303");
    scene.machine.find_node(scene.now, &peer.record(), [1; 64]).unwrap();
    scene.sent_one(Kind::FindNode);
    peer
}

fn neighbors(scene: &mut Scene, count: u8) -> Vec<Neighbor> {
    (0..count).map(|n| Neighbor::from(&scene.peer(&format!("24.1.{n}.1:30303")).record())).collect()
}

fn found(outcome: Option<Result<Answer, RequestError>>) -> Vec<NodeRecord> {
    match outcome {
        Some(Ok(Answer::Neighbors(nodes))) => nodes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn unsolicited_neighbors_are_dropped_and_change_nothing() {
    let mut scene = Scene::new();
    let (peer, nodes) = (scene.bonded("24.0.1.1:30303"), neighbors(&mut scene, 1));
    assert_eq!(scene.hears_neighbors(&peer, nodes.clone()), Err(Rejected::Unsolicited));
    let peer = asked(&mut scene);
    let (other, elsewhere) = (scene.peer("24.0.1.1:30303"), peer.moved("24.0.1.2:30303"));
    assert_eq!(scene.hears_neighbors(&other, nodes.clone()), Err(Rejected::Unsolicited));
    assert_eq!(scene.hears_neighbors(&elsewhere, nodes.clone()), Err(Rejected::Unsolicited));
    assert_eq!(scene.machine.table().len(), 2);
}

#[test]
fn sixteen_neighbors_end_the_wait_at_once() {
    let mut scene = Scene::new();
    let (peer, nodes) = (asked(&mut scene), neighbors(&mut scene, 16));
    scene.hears_neighbors(&peer, nodes[..12].to_vec()).unwrap();
    assert_eq!(scene.outcome(), None);
    scene.hears_neighbors(&peer, nodes[12..].to_vec()).unwrap();
    assert_eq!(found(scene.outcome()).iter().map(Neighbor::from).collect::<Vec<_>>(), nodes);
    assert_eq!(scene.hears_neighbors(&peer, nodes), Err(Rejected::Unsolicited), "enough is enough");
}

#[test]
fn fewer_neighbors_end_the_wait_after_a_moment() {
    let mut scene = Scene::new();
    let (peer, nodes) = (asked(&mut scene), neighbors(&mut scene, 3));
    scene.hears_neighbors(&peer, nodes).unwrap();
    assert_eq!(scene.outcome(), None, "more may have been overtaken");
    scene.wait(ms(60));
    assert_eq!(found(scene.outcome()).len(), 3);
}

#[test]
fn an_empty_answer_is_an_answer() {
    let mut scene = Scene::new();
    let peer = asked(&mut scene);
    scene.hears_neighbors(&peer, Vec::new()).unwrap();
    scene.wait(ms(60));
    assert!(found(scene.outcome()).is_empty());
}

#[test]
fn no_more_than_sixteen_neighbors_are_taken_and_none_twice() {
    let mut scene = Scene::new();
    let (peer, nodes) = (asked(&mut scene), neighbors(&mut scene, 40));
    scene.hears_neighbors(&peer, nodes[..10].to_vec()).unwrap();
    scene.hears_neighbors(&peer, nodes[..10].to_vec()).unwrap();
    assert_eq!(scene.outcome(), None, "the same ones again");
    scene.hears_neighbors(&peer, nodes[10..].to_vec()).unwrap();
    assert_eq!(found(scene.outcome()).len(), 16);
}

/// Each datagram is a reason to wait for another: who sends nothing new all the time must not hold up a refresh for ever.
#[test]
fn who_repeats_himself_does_not_keep_a_question_open() {
    for count in [0, 3, 12] {
        let mut scene = Scene::new();
        let (peer, nodes) = (asked(&mut scene), neighbors(&mut scene, count));
        let mut answers = 0;
        while scene.hears_neighbors(&peer, nodes.clone()).is_ok() {
            answers += 1;
            assert!(answers <= 16, "{count} nodes, again and again");
            scene.wait(ms(40));
        }
        assert_eq!(found(scene.outcome()).len(), usize::from(count));
    }
}

#[test]
fn bad_neighbors_are_dropped_and_the_good_ones_kept() {
    let mut scene = Scene::new(); // each row has to be refused for what it says, not for being outside some network
    let peer = asked(&mut scene);
    let good = neighbors(&mut scene, 1).remove(0);
    let mut off_curve = good.key;
    off_curve[63] ^= 1;
    let rows = [
        ("low port", Neighbor { udp: 1024, ..good }),
        ("loopback", Neighbor { ip: "127.0.0.1".parse().unwrap(), ..good }),
        ("LAN", Neighbor { ip: "10.0.0.1".parse().unwrap(), ..good }),
        ("special", Neighbor { ip: "192.0.2.1".parse().unwrap(), ..good }),
        ("multicast", Neighbor { ip: "224.0.0.1".parse().unwrap(), ..good }),
        ("unspecified", Neighbor { ip: "0.0.0.0".parse().unwrap(), ..good }),
        ("off the curve", Neighbor { key: off_curve, ..good }),
        ("beyond the prime", Neighbor { key: [0xff; 64], ..good }),
        ("zero", Neighbor { key: [0; 64], ..good }),
        ("ourselves", Neighbor { key: *scene.secret.public().as_bytes(), ..good }),
    ];
    for (what, bad) in rows {
        scene.hears_neighbors(&peer, vec![bad, good]).unwrap();
        scene.wait(ms(60));
        assert_eq!(found(scene.outcome()).iter().map(Neighbor::from).collect::<Vec<_>>(), [good], "{what}");
        scene.machine.find_node(scene.now, &peer.record(), [1; 64]).unwrap();
        scene.sent();
    }
    assert_eq!(scene.machine.stats().neighbors_refused, rows.len() as u64);
}

#[test]
fn neighbors_outside_the_allowed_networks_are_dropped() {
    let mut scene = Scene::with(|config| config.reach.netrestrict = vec!["24.0.0.0/8".parse().unwrap()]);
    let (peer, good) = (asked(&mut scene), neighbors(&mut scene, 1).remove(0));
    let outside = Neighbor { ip: "25.0.0.1".parse().unwrap(), ..good };
    scene.hears_neighbors(&peer, vec![outside, good]).unwrap();
    scene.wait(ms(60));
    assert_eq!(found(scene.outcome()).iter().map(Neighbor::from).collect::<Vec<_>>(), [good]);
}

// --- ENRRequest and ENRResponse ---

#[test]
fn our_record_goes_to_the_proven_only() {
    let mut scene = Scene::new();
    let record = scene.machine.local_content().builder(1).sign(&scene.secret).unwrap();
    scene.machine.set_local_record(record.clone());
    let stranger = scene.peer("24.0.9.9:4444");
    assert_eq!(scene.hears_enr_request(&stranger), Err(Rejected::NoEndpointProof));
    let peer = scene.bonded("24.0.1.1:30303");
    let neighbor = scene.peer("24.0.1.1:30303");
    assert_eq!(scene.hears_enr_request(&neighbor), Err(Rejected::NoEndpointProof), "another id at a proven address");
    assert!(scene.sent().is_empty());
    let expiration = scene.expiration();
    scene.hears_hashed(&peer, [8; 32], Message::EnrRequest(EnrRequest { expiration })).unwrap();
    let answer = scene.sent_one(Kind::EnrResponse);
    assert_eq!(answer.message, Message::EnrResponse(EnrResponse { request_hash: [8; 32], record }));
}

/// The machine asks a bonded peer for its record.
fn asked_enr(scene: &mut Scene, peer: &Peer) -> Sent {
    scene.machine.request_enr(scene.now, &peer.record()).unwrap();
    scene.sent_one(Kind::EnrRequest)
}

#[test]
fn a_record_must_answer_our_request_and_be_its_senders() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:30303");
    let request = asked_enr(&mut scene, &peer);
    let unasked = Sent { hash: [0; 32], ..request.clone() };
    assert_eq!(scene.hears_enr(&peer, &unasked, peer.enr(1)), Err(Rejected::Unsolicited));
    let other = scene.peer("24.0.1.1:30303");
    assert_eq!(scene.hears_enr(&peer, &request, other.enr(1)), Err(Rejected::ForeignRecord));
    assert_eq!(scene.outcome(), Some(Err(RequestError::BadRecord)));
    let request = asked_enr(&mut scene, &peer);
    assert_eq!(scene.hears_enr(&peer, &request, peer.enr(1)), Ok(()));
    assert_eq!(scene.outcome(), Some(Ok(Answer::Enr(peer.enr(1)))));
    assert_eq!(scene.machine.table().get(&peer.id()).unwrap().record().enr(), Some(&peer.enr(1)));
}

#[test]
fn a_record_may_not_name_an_address_its_sender_may_not_speak_of() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:30303");
    let request = asked_enr(&mut scene, &peer);
    let lan = peer.moved("10.0.0.1:30303").enr(9);
    assert_eq!(scene.hears_enr(&peer, &request, lan), Ok(()));
    assert_eq!(scene.outcome(), Some(Err(RequestError::BadRecord)));
    assert_eq!(scene.machine.table().get(&peer.id()).unwrap().record().seq(), 0);
}

#[test]
fn an_older_record_does_not_replace_a_newer_one() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:30303");
    let known = NodeRecord::from_enr(peer.enr(5)).unwrap();
    scene.machine.request_enr(scene.now, &known).unwrap();
    let request = scene.sent_one(Kind::EnrRequest);
    scene.hears_enr(&peer, &request, peer.enr(4)).unwrap();
    assert_eq!(scene.outcome(), Some(Ok(Answer::Enr(peer.enr(5)))));
}

#[test]
fn a_pong_with_a_higher_sequence_number_has_the_record_fetched() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:30303");
    for (seq, is_news) in [(3, true), (3, false), (2, false), (4, true)] {
        scene.machine.ping(scene.now, &peer.record()).unwrap();
        let ping = scene.sent_one(Kind::Ping);
        let pong = scene.pong_to(&ping, Some(seq));
        scene.hears(&peer, pong).unwrap();
        let sent = scene.sent();
        assert_eq!(sent.len(), usize::from(is_news), "seq {seq}: {sent:?}");
        if let Some(request) = sent.first() {
            scene.hears_enr(&peer, request, peer.enr(seq)).unwrap();
        }
    }
    assert_eq!(scene.machine.table().get(&peer.id()).unwrap().record().seq(), 4);
}
