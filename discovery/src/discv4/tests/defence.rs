//! Floods, replays, lies about where we are.

use super::*;

#[test]
fn two_hundred_spoofed_pings_bring_their_victim_two_hundred_pongs_and_five_pings() {
    let mut scene = Scene::new();
    let (mut pongs, mut pings) = (0, 0);
    for _ in 0..200 {
        let stranger = scene.peer("24.0.1.1:4444"); // another identity each time
        scene.hears_ping(&stranger).unwrap();
        for kind in scene.sent_kinds() {
            match kind {
                Kind::Pong => pongs += 1,
                Kind::Ping => pings += 1,
                other => panic!("{other}"),
            }
        }
    }
    pings += scene.wait(secs(5)).len(); // repetitions, if it did without them so far
    assert_eq!((pongs, pings), (200, 5));
    assert_eq!(scene.machine.stats().ping_backs_withheld, 195);
}

/// go-ethereum's suite and a crawl come as hundreds of identities from one address: each gets its ping back.
#[test]
fn hundreds_of_identities_behind_one_address_can_bond() {
    let mut scene = Scene::new();
    for port in 2000..2600 {
        let peer = scene.bonded(&format!("127.0.0.1:{port}"));
        assert_eq!(scene.hears_find_node(&peer, [1; 64]), Ok(()));
        scene.sent();
    }
}

#[test]
fn a_flood_from_one_address_is_cut_and_leaves_the_proven_alone() {
    let mut scene = Scene::new();
    let friend = scene.bonded("24.0.9.1:30303");
    let stranger = scene.peer("24.0.1.1:4444");
    let mut answered = 0;
    for _ in 0..5000 {
        answered += usize::from(scene.hears_ping(&stranger).is_ok());
        scene.sent();
    }
    assert_eq!(answered, 1024);
    assert_eq!(scene.hears_ping(&stranger), Err(Rejected::SourceRate));
    assert_eq!(scene.hears_ping(&friend), Ok(()));
    let neighbor = scene.peer("24.0.1.2:4444");
    assert_eq!(scene.hears_ping(&neighbor), Ok(()), "another address");
    scene.now = scene.now.after(secs(1));
    assert_eq!(scene.hears_ping(&stranger), Ok(()), "eight a second after that");
}

/// Who has bonded from one port of an address vouches for that port: others behind it, or who say so, are strangers.
#[test]
fn a_proof_at_one_port_lifts_no_limit_at_another() {
    let mut scene = Scene::new();
    scene.bonded("24.0.1.1:30303");
    let stranger = scene.peer("24.0.1.1:4444");
    let mut answered = 0;
    for _ in 0..2000 {
        answered += usize::from(scene.hears_ping(&stranger).is_ok());
        scene.sent();
    }
    assert_eq!(answered, 1023, "the first of 1,024 was the other's");
}

/// What a packet says of itself is enough to refuse it; its signature is not looked at, which is what costs.
#[test]
fn what_can_be_refused_is_refused_before_its_signature_is_looked_at() {
    let mut scene = Scene::with(|config| {
        config.reach.netrestrict = vec!["24.0.0.0/8".parse().unwrap()];
        config.limits.stranger_pings = Rate::new(1, 1);
    });
    let friend = scene.bonded("24.0.1.1:30303");
    scene.machine.ping(scene.now, &friend.record()).unwrap();
    let ping = scene.sent_one(Kind::Ping);
    let (known, stranger) = (friend.at, "24.0.2.2:4444".parse().unwrap());
    let (now, soon) = (scene.now.unix_seconds(), scene.expiration());
    let header =
        |kind, expiration, reply_to| packet::Header { hash: [5; 32], kind, expiration: Some(expiration), reply_to };
    use Kind::*;
    for (from, header, verdict) in [
        (known, header(Ping, now - 1, None), Err(Rejected::Expired)),
        (known, header(Ping, u64::MAX, None), Err(Rejected::TooFarAhead)),
        ("25.0.0.1:1".parse().unwrap(), header(Ping, soon, None), Err(Rejected::NotAllowed)),
        (known, header(Pong, soon, Some([7; 32])), Err(Rejected::Unsolicited)),
        (stranger, header(Pong, soon, Some(ping.hash)), Err(Rejected::Unsolicited)),
        (known, header(Pong, soon, Some(ping.hash)), Ok(())),
        (known, header(Neighbors, soon, None), Err(Rejected::Unsolicited)),
        (known, header(EnrResponse, soon, Some(ping.hash)), Err(Rejected::Unsolicited)),
        (stranger, header(FindNode, soon, None), Err(Rejected::NoEndpointProof)),
        (stranger, header(EnrRequest, soon, None), Err(Rejected::NoEndpointProof)),
        (known, header(FindNode, soon, None), Ok(())),
        (stranger, header(Ping, soon, None), Ok(())),
        (stranger, header(Ping, soon, None), Err(Rejected::SourceRate)),
        (known, header(Ping, soon, None), Ok(())),
    ] {
        assert_eq!(scene.machine.admit(scene.now, from, &header), verdict, "{from} {header:?}");
    }
}

/// Answers that nobody takes away, because the driver has too much to do.
#[test]
fn answers_that_wait_are_bounded_and_the_others_counted() {
    let mut scene = Scene::new();
    let friend = scene.bonded("24.0.9.1:30303");
    (0..10_000).for_each(|_| scene.hears_ping(&friend).unwrap());
    assert_eq!(scene.machine.stats().replies_dropped, 10_000 - MAX_QUEUED_REPLIES as u64);
    assert_eq!(scene.sent().len(), MAX_QUEUED_REPLIES);
}

#[test]
fn a_captured_findnode_is_not_answered_for_ever() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:30303");
    let captured = Message::FindNode(FindNode { target: [1; 64], expiration: scene.expiration() });
    let mut answers = 0;
    for _ in 0..100 {
        answers += usize::from(scene.hears_hashed(&peer, [3; 32], captured.clone()).is_ok());
        scene.wait(ms(100));
    }
    assert_eq!(answers, 3);
}

#[test]
fn a_captured_ping_cannot_move_its_sender() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:30303");
    let ping = scene.ping(&peer);
    scene.hears_hashed(&peer, [3; 32], ping.clone()).unwrap();
    let thief = peer.moved("24.0.1.1:6666");
    scene.sent();
    assert_eq!(scene.hears_hashed(&thief, [3; 32], ping), Ok(()));
    assert_eq!(scene.sent_one(Kind::Pong).to, thief.at);
    assert_eq!(scene.machine.table().get(&peer.id()).unwrap().record().endpoint(), peer.at);
}

/// Neither does a flood of pings make us forget whose port is whose, nor a copy that comes first from the right port.
#[test]
fn old_pings_move_nobody_whatever_came_between() {
    let mut scene = Scene::with(|config| {
        config.limits.stranger_pings = Rate::new(1 << 20, 1);
        config.limits.all_stranger_pings = Rate::new(1 << 20, 1);
    });
    let (peer, stranger) = (scene.bonded("24.0.1.1:30303"), scene.peer("25.0.0.1:30303"));
    let thief = peer.moved("24.0.1.1:6666");
    let ping = |scene: &mut Scene, more: u64| {
        let Message::Ping(ping) = scene.ping(&peer) else { unreachable!() };
        Message::Ping(Ping { expiration: ping.expiration + more, ..ping })
    };
    let (old, new) = (ping(&mut scene, 1), ping(&mut scene, 2));
    scene.hears_hashed(&peer, [3; 32], old.clone()).unwrap();
    scene.hears_hashed(&peer, [4; 32], new.clone()).unwrap();
    scene.hears_hashed(&peer, [3; 32], old.clone()).unwrap();
    for n in 0..20_000_u32 {
        let [.., high, low] = n.to_be_bytes();
        scene.hears_ping(&stranger.moved(&format!("25.{high}.{low}.1:30303"))).unwrap();
        scene.sent();
    }
    scene.hears_hashed(&thief, [3; 32], old.clone()).unwrap();
    scene.hears_hashed(&thief, [4; 32], new.clone()).unwrap();
    let endpoint = |scene: &Scene| scene.machine.table().get(&peer.id()).unwrap().record().endpoint();
    assert_eq!(endpoint(&scene), peer.at);

    // Who really moves writes a new one; then it is the old port that moves nobody.
    scene.hears_hashed(&thief, [5; 32], new).unwrap();
    assert_eq!(endpoint(&scene), thief.at);
    scene.hears_hashed(&peer, [3; 32], old).unwrap();
    assert_eq!(endpoint(&scene), thief.at);
    // One that seemed to last for days, before our clock was set back, says nothing.
    let far = ping(&mut scene, 60);
    scene.hears_hashed(&thief, [6; 32], far).unwrap();
    scene.now.wall -= secs(7 * 24 * 3600);
    scene.hears_ping(&peer).unwrap();
    assert_eq!(endpoint(&scene), peer.at);
}

/// Our own pings last for 20 to 52 s: who restarts at another port may write one that ends before its last.
#[test]
fn who_moves_is_answered_at_once_whatever_its_pings_said_before() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:30303");
    let Message::Ping(ping) = scene.ping(&peer) else { unreachable!() };
    scene.hears(&peer, Message::Ping(Ping { expiration: ping.expiration + 32, ..ping.clone() })).unwrap();
    scene.wait(secs(5));
    let moved = peer.moved("24.0.1.1:30304");
    scene.hears(&moved, Message::Ping(Ping { expiration: ping.expiration + 5, ..ping })).unwrap();
    assert_eq!(scene.sent_one(Kind::Pong).to, moved.at);
    scene.hears_find_node(&moved, [1; 64]).unwrap();
    scene.wait(secs(33));
    scene.hears_ping(&moved).unwrap();
    assert_eq!(scene.machine.table().get(&peer.id()).unwrap().record().endpoint(), moved.at);
}

/// False sources, and signatures of nobody who is proven there, make us forget nothing (16,384 questions are remembered).
#[test]
fn a_flood_from_a_proven_address_does_not_wash_out_what_was_answered() {
    let mut scene = Scene::new();
    let (peer, other) = (scene.bonded("24.0.1.1:30303"), scene.peer("24.0.1.1:30303"));
    let captured = Message::FindNode(FindNode { target: [1; 64], expiration: scene.expiration() });
    (0..3).for_each(|_| scene.hears_hashed(&peer, [3; 32], captured.clone()).unwrap());
    for _ in 0..20_000 {
        // Admitted, since the address is proven; the signature is nobody's.
        let (key, hash) = (*other.secret.public(), scene.new_hash());
        let forged = Packet { from: key, id: key.node_id(), hash, message: captured.clone() };
        scene.machine.admit(scene.now, peer.at, &forged.header()).unwrap();
        // Its signature is that of another node.
        assert_eq!(scene.hears_find_node(&other, [1; 64]), Err(Rejected::NoEndpointProof));
        assert_eq!(scene.hears_enr_request(&other), Err(Rejected::NoEndpointProof));
    }
    assert_eq!(scene.hears_hashed(&peer, [3; 32], captured), Err(Rejected::Replayed));
}

/// Copies that come together are all admitted before the first of them is looked at.
#[test]
fn copies_that_come_together_are_answered_three_times_at_most() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:30303");
    let (key, expiration) = (*peer.secret.public(), scene.expiration());
    for (hash, message) in [
        ([3; 32], Message::FindNode(FindNode { target: [1; 64], expiration })),
        ([4; 32], Message::EnrRequest(EnrRequest { expiration })),
    ] {
        let copy = || Packet { from: key, id: key.node_id(), hash, message: message.clone() };
        (0..10).for_each(|_| scene.machine.admit(scene.now, peer.at, &copy().header()).unwrap());
        let answered: Vec<_> = (0..10).map(|_| scene.machine.handle_packet(scene.now, peer.at, copy())).collect();
        assert!(
            answered[..3].iter().all(Result::is_ok) && answered[3..].iter().all(|it| *it == Err(Rejected::Replayed))
        );
        assert_eq!(scene.machine.admit(scene.now, peer.at, &copy().header()), Err(Rejected::Replayed));
    }
}

#[test]
fn every_refusal_is_counted_by_its_reason() {
    let mut scene = Scene::new();
    let peer = scene.peer("24.0.1.1:30303");
    _ = scene.hears_find_node(&peer, [1; 64]);
    _ = scene.hears_neighbors(&peer, Vec::new());
    _ = scene.hears_neighbors(&peer, Vec::new());
    let rejected = scene.machine.stats().rejected;
    assert_eq!(rejected.get(Rejected::NoEndpointProof), 1);
    assert_eq!(rejected.get(Rejected::Unsolicited), 2);
    assert_eq!(rejected.total(), 3);
}

// --- Where we are ---

/// `count` nodes in networks of their own answer a ping of ours and say that we are at `seen`.
fn told(scene: &mut Scene, count: u8, seen: &str) -> Vec<LocalContent> {
    for n in 0..count {
        let peer = scene.peer(&format!("24.7.{n}.1:30303"));
        scene.machine.ping(scene.now, &peer.record()).unwrap();
        let ping = scene.sent_one(Kind::Ping);
        let Message::Pong(pong) = scene.pong_to(&ping, None) else { unreachable!() };
        let to = Endpoint::new(seen.parse().unwrap(), 0);
        scene.hears(&peer, Message::Pong(Pong { to, ..pong })).unwrap();
        scene.sent();
    }
    let changes = scene.events().into_iter().filter_map(|event| match event {
        Event::LocalRecordChanged(content) => Some(content),
        _ => None,
    });
    changes.collect()
}

#[test]
fn ten_pongs_that_agree_change_our_record_once() {
    let mut scene = Scene::with(|config| {
        config.endpoint.explicit_ips.clear();
        config.endpoint.fallback_ips = vec!["127.0.0.1".parse().unwrap()];
    });
    assert_eq!(scene.machine.local_content().v4.unwrap().to_string(), "127.0.0.1:30303");
    assert_eq!(told(&mut scene, 9, "23.5.5.5:4000"), []);
    let changes = told(&mut scene, 30, "23.5.5.5:4000");
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].v4.unwrap().to_string(), "23.5.5.5:4000");
}

#[test]
fn an_explicit_address_is_not_voted_on() {
    let mut scene = Scene::new();
    assert_eq!(told(&mut scene, 30, "23.5.5.5:4000"), []);
    assert_eq!(scene.machine.local_content().v4.unwrap().to_string(), "24.0.0.1:30303");
}

#[test]
fn the_record_changes_with_its_content_only() {
    let mut scene = Scene::new();
    let entry = TendermintEntry { node_id: [1; 20], tcp_port: 26656 };
    scene.machine.set_tendermint(Some(entry));
    assert!(matches!(scene.events()[..], [Event::LocalRecordChanged(_)]));
    scene.machine.set_tendermint(Some(entry));
    assert_eq!(scene.events(), []);
}

#[test]
fn the_first_event_is_the_record_to_sign() {
    let mut scene = Scene::before_refresh(|_| {});
    let Some(Event::LocalRecordChanged(content)) = scene.machine.poll_event() else { panic!("no content") };
    assert_eq!(content.v4.unwrap().to_string(), "24.0.0.1:30303");
    assert_eq!(&content, scene.machine.local_content());
}

/// The machine wakes a day later with a wall clock that was set back: nobody's proof or place is lost by that.
#[test]
fn a_step_of_the_wall_clock_expires_nothing() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:30303");
    scene.now.wall -= secs(7 * 24 * 3600);
    assert_eq!(scene.hears_find_node(&peer, [1; 64]), Ok(()));
    scene.now.wall += secs(30 * 24 * 3600);
    assert_eq!(scene.hears_find_node(&peer, [1; 64]), Ok(()));
    assert!(scene.knows(&peer));
}
