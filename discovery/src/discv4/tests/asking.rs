//! What goes out: proofs before questions, repetitions, lookups, resolution (spec sheet discv4 §5).

use super::*;

fn kinds(sent: &[Sent]) -> Vec<Kind> {
    sent.iter().map(|sent| sent.message.kind()).collect()
}

// --- Proof before the question ---

#[test]
fn a_question_waits_for_their_ping_and_follows_our_pong_at_once() {
    let mut scene = Scene::new();
    let peer = scene.peer("24.0.1.1:30303");
    scene.machine.find_node(scene.now, &peer.record(), [1; 64]).unwrap();
    let ping = scene.sent_one(Kind::Ping);
    scene.wait(ms(30));
    scene.hears_pong(&peer, &ping).unwrap();
    assert!(scene.sent().is_empty());
    scene.hears_ping(&peer).unwrap();
    assert_eq!(scene.sent_kinds(), [Kind::Pong, Kind::FindNode], "in this order, and without any sleep");
}

#[test]
fn a_question_follows_shortly_if_they_know_us_already() {
    let mut scene = Scene::new();
    let peer = scene.peer("24.0.1.1:30303");
    scene.machine.find_node(scene.now, &peer.record(), [1; 64]).unwrap();
    let ping = scene.sent_one(Kind::Ping);
    scene.wait(ms(30));
    scene.hears_pong(&peer, &ping).unwrap();
    assert!(scene.wait(ms(29)).is_empty());
    assert_eq!(kinds(&scene.wait(ms(1))), [Kind::FindNode], "as long as the round trip took");
}

#[test]
fn a_question_to_a_silent_node_fails_and_never_goes_out() {
    let mut scene = Scene::new();
    let peer = scene.peer("24.0.1.1:30303");
    scene.machine.find_node(scene.now, &peer.record(), [1; 64]).unwrap();
    assert_eq!(kinds(&scene.wait(secs(3))), [Kind::Ping; 3]);
    assert_eq!(scene.outcome(), Some(Err(RequestError::Timeout)));
    assert_eq!(scene.machine.requests_under_way(), 0);
}

#[test]
fn questions_to_one_node_share_one_proof() {
    let mut scene = Scene::new();
    let peer = scene.peer("24.0.1.1:30303");
    scene.machine.find_node(scene.now, &peer.record(), [1; 64]).unwrap();
    scene.machine.find_node(scene.now, &peer.record(), [2; 64]).unwrap();
    scene.machine.request_enr(scene.now, &peer.record()).unwrap();
    let ping = scene.sent_one(Kind::Ping);
    scene.hears_ping(&peer).unwrap();
    assert_eq!(scene.sent_kinds(), [Kind::Pong, Kind::FindNode, Kind::FindNode, Kind::EnrRequest]);
    scene.hears_pong(&peer, &ping).unwrap();
    assert!(scene.knows(&peer), "that was its proof as well");
}

#[test]
fn who_has_pinged_us_is_asked_without_a_ping() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:30303");
    scene.machine.request_enr(scene.now, &peer.record()).unwrap();
    scene.sent_one(Kind::EnrRequest);
}

#[test]
fn an_unanswered_question_has_us_prove_ourselves_again() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:30303");
    scene.machine.find_node(scene.now, &peer.record(), [1; 64]).unwrap();
    let sent = scene.wait(ms(300));
    assert_eq!(kinds(&sent), [Kind::FindNode, Kind::Ping, Kind::FindNode], "perhaps they have forgotten us");
    scene.hears_ping(&peer).unwrap();
    assert_eq!(scene.sent_kinds(), [Kind::Pong, Kind::FindNode], "they had");
    scene.hears_neighbors(&peer, Vec::new()).unwrap();
    scene.wait(ms(100));
    assert_eq!(scene.outcome(), Some(Ok(Answer::Neighbors(Vec::new()))));
}

// --- Time-outs and repetitions ---

#[test]
fn a_question_goes_out_three_times_each_in_a_datagram_of_its_own() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:30303");
    scene.machine.request_enr(scene.now, &peer.record()).unwrap();
    let sent = scene.wait(secs(3));
    let mut messages: Vec<_> =
        sent.into_iter().map(|sent| sent.message).filter(|m| m.kind() == Kind::EnrRequest).collect();
    assert_eq!(messages.len(), 3);
    messages.dedup();
    assert_eq!(messages.len(), 3, "signatures are deterministic: equal messages would look like replays");
    assert_eq!(scene.outcome(), Some(Err(RequestError::Timeout)));
}

/// Each ping of theirs may mean that they had no proof of us; but who only pings gets the question six times.
#[test]
fn a_question_is_not_repeated_for_ever_to_somebody_who_pings() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:30303");
    scene.machine.find_node(scene.now, &peer.record(), [1; 64]).unwrap();
    let mut asked = 0;
    for _ in 0..200 {
        scene.hears_ping(&peer).unwrap();
        let is_it = |sent: &&Sent| matches!(&sent.message, Message::FindNode(find) if find.target == [1; 64]);
        asked += scene.wait(ms(20)).iter().filter(is_it).count(); // refreshes ask too
    }
    assert_eq!(asked, 6);
    assert_eq!(scene.outcome(), Some(Err(RequestError::Timeout)));
}

#[test]
fn the_answer_to_any_of_the_repetitions_counts() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:30303");
    scene.machine.request_enr(scene.now, &peer.record()).unwrap();
    let first = scene.wait(ms(400)).remove(0);
    assert_eq!(scene.hears_enr(&peer, &first, peer.enr(1)), Ok(()));
    assert_eq!(scene.outcome(), Some(Ok(Answer::Enr(peer.enr(1)))));
}

#[test]
fn a_ping_of_the_user_is_not_repeated_and_ends_after_half_a_second() {
    let mut scene = Scene::new();
    let peer = scene.peer("24.0.1.1:30303");
    scene.machine.ping(scene.now, &peer.record()).unwrap();
    assert_eq!(kinds(&scene.wait(ms(499))), [Kind::Ping]);
    assert_eq!(scene.outcome(), None);
    scene.wait(ms(1));
    assert_eq!(scene.outcome(), Some(Err(RequestError::Timeout)));
}

#[test]
fn a_pong_tells_the_round_trip_and_the_sequence_number() {
    let mut scene = Scene::new();
    let peer = scene.peer("24.0.1.1:30303");
    scene.machine.ping(scene.now, &peer.record()).unwrap();
    let ping = scene.sent_one(Kind::Ping);
    scene.wait(ms(77));
    let pong = scene.pong_to(&ping, Some(5));
    scene.hears(&peer, pong).unwrap();
    assert_eq!(scene.outcome(), Some(Ok(Answer::Pong { rtt: ms(77), enr_seq: 5 })));
}

/// Whether a repetition or the first ping was answered makes all the difference: pongs say which.
#[test]
fn the_round_trip_is_that_of_the_datagram_the_pong_names() {
    for (answered, late_after) in [(0, ms(400)), (1, ms(50))] {
        let mut scene = Scene::new();
        let peer = scene.peer("24.0.1.1:30303");
        scene.machine.find_node(scene.now, &peer.record(), [1; 64]).unwrap();
        let pings = scene.wait(ms(260)); // the second goes out after 250 ms
        assert_eq!(kinds(&pings), [Kind::Ping, Kind::Ping]);
        scene.hears_pong(&peer, &pings[answered]).unwrap();
        assert_eq!(scene.machine.round_trip.late_after(), late_after, "260 ms or 10 ms, and its deviation");
    }
}

#[test]
fn repetitions_come_later_each_time() {
    let mut scene = Scene::new();
    let peer = scene.peer("24.0.1.1:30303");
    scene.machine.find_node(scene.now, &peer.record(), [1; 64]).unwrap();
    for (span, count) in [(249, 1), (1, 1), (499, 0), (1, 1), (2000, 0)] {
        assert_eq!(scene.wait(ms(span)).len(), count, "within {span} ms");
    }
}

#[test]
fn requests_are_bounded() {
    let mut scene = Scene::with(|config| config.max_requests = 10);
    for n in 0..10 {
        let peer = scene.peer(&format!("24.0.{n}.1:30303"));
        assert!(scene.machine.ping(scene.now, &peer.record()).is_ok());
    }
    let peer = scene.peer("24.0.99.1:30303");
    assert_eq!(scene.machine.ping(scene.now, &peer.record()), Err(RequestError::Busy));
    scene.hears_ping(&peer).unwrap();
    assert_eq!(scene.sent_kinds().len(), 11, "pings and the pong, but no ping back");
    scene.wait(secs(1));
    assert!(scene.machine.ping(scene.now, &peer.record()).is_ok());
}

#[test]
fn we_do_not_ask_ourselves_nor_whom_we_may_not() {
    let mut scene = Scene::with(|config| config.reach.netrestrict = vec!["24.0.0.0/8".parse().unwrap()]);
    let me = Peer { secret: scene.secret.clone(), at: "24.0.0.1:30303".parse().unwrap() };
    let outside = scene.peer("25.0.0.1:30303");
    for node in [&me, &outside] {
        assert_eq!(scene.machine.ping(scene.now, &node.record()), Err(RequestError::NotAllowed));
    }
    assert_eq!(scene.hears_ping(&outside), Err(Rejected::NotAllowed));
}

// --- Lookups ---

/// Lets every peer answer what it is asked, with the nodes it knows, until nothing more is sent.
pub(super) fn let_answer(scene: &mut Scene, peers: &[Peer], silent: &[NodeId]) {
    for _ in 0..10_000 {
        let mut sent = scene.sent();
        if sent.is_empty() {
            sent = scene.wait(ms(10));
        }
        if sent.is_empty() && scene.machine.requests_under_way() == 0 {
            return;
        }
        for sent in sent {
            let Some(peer) = peers.iter().find(|peer| peer.at == sent.to && !silent.contains(&peer.id())) else {
                continue;
            };
            match &sent.message {
                Message::Ping(_) => {
                    scene.hears_pong(peer, &sent).unwrap();
                    scene.hears_ping(peer).unwrap();
                }
                Message::FindNode(find) => {
                    let place = NodeId::of_target(&find.target);
                    let mut nodes: Vec<_> = peers.iter().map(Peer::record).collect();
                    nodes.sort_by_key(|node| place.distance(&node.id()));
                    let nodes: Vec<_> = nodes.iter().take(16).map(Neighbor::from).collect();
                    _ = scene.hears_neighbors(peer, nodes);
                }
                Message::EnrRequest(_) => scene.hears_enr(peer, &sent, peer.enr(1)).unwrap(),
                _ => {}
            }
        }
    }
    panic!("never settles");
}

pub(super) fn peers(scene: &mut Scene, count: usize) -> Vec<Peer> {
    (0..count).map(|n| scene.peer(&format!("24.2.{n}.1:30303"))).collect()
}

fn result(scene: &mut Scene) -> Option<Vec<NodeRecord>> {
    scene.events().into_iter().find_map(|event| match event {
        Event::LookupDone { closest, .. } => Some(closest),
        _ => None,
    })
}

#[test]
fn a_lookup_on_an_empty_table_starts_from_the_bootnodes_and_finds_the_closest() {
    let mut maker = Scene::new();
    let peers = peers(&mut maker, 40);
    let mut scene = Scene::before_refresh(|config| config.bootnodes = vec![peers[0].record()]);
    scene.machine.lookup(scene.now, [3; 64]).unwrap();
    let_answer(&mut scene, &peers, &[]);
    let place = NodeId::of_target(&[3; 64]);
    let mut expected: Vec<_> = peers.iter().map(Peer::id).collect();
    expected.sort_by_key(|id| place.distance(id));
    let found: Vec<_> = result(&mut scene).unwrap().iter().map(NodeRecord::id).collect();
    assert_eq!(found, expected[..16]);
}

#[test]
fn a_lookup_without_anybody_ends_at_once_with_nothing() {
    let mut scene = Scene::new();
    scene.machine.lookup(scene.now, [3; 64]).unwrap();
    assert_eq!(result(&mut scene), Some(Vec::new()));
}

#[test]
fn silent_nodes_are_no_result() {
    let mut maker = Scene::new();
    let peers = peers(&mut maker, 20);
    let mut scene = Scene::with(|config| config.bootnodes = vec![peers[0].record()]);
    let place = NodeId::of_target(&[3; 64]);
    let silent = peers[1..].iter().map(Peer::id).min_by_key(|id| place.distance(id)).unwrap();
    scene.machine.lookup(scene.now, [3; 64]).unwrap();
    let_answer(&mut scene, &peers, &[silent]);
    let found = result(&mut scene).unwrap();
    assert_eq!(found.len(), 16);
    assert!(found.iter().all(|node| node.id() != silent));
}

#[test]
fn lookups_are_bounded_and_can_be_cancelled() {
    let mut maker = Scene::new();
    let bootnode = maker.peer("24.2.0.1:30303");
    let mut scene = Scene::with(|config| config.bootnodes = vec![bootnode.record()]);
    let started: Vec<_> = std::iter::from_fn(|| scene.machine.lookup(scene.now, [3; 64]).ok()).take(1000).collect();
    assert!(started.len() <= MAX_LOOKUPS);
    started.iter().for_each(|lookup| scene.machine.cancel_lookup(*lookup));
    scene.wait(secs(10));
    assert_eq!(result(&mut scene), None);
    assert!(scene.machine.lookup(scene.now, [3; 64]).is_ok());
}

#[test]
fn a_lookup_result_carries_the_signed_record_the_table_has() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.2.0.1:30303");
    scene.machine.request_enr(scene.now, &peer.record()).unwrap();
    let request = scene.sent_one(Kind::EnrRequest);
    scene.hears_enr(&peer, &request, peer.enr(3)).unwrap();
    scene.machine.lookup(scene.now, [3; 64]).unwrap();
    let_answer(&mut scene, std::slice::from_ref(&peer), &[]);
    assert_eq!(result(&mut scene).unwrap()[0].seq(), 3);
}

// --- Resolve ---

pub(super) fn resolved(scene: &mut Scene) -> Result<NodeRecord, RequestError> {
    match scene.outcome() {
        Some(Ok(Answer::Node(node))) => Ok(node),
        Some(Err(error)) => Err(error),
        other => panic!("{other:?}"),
    }
}

#[test]
fn resolve_asks_the_node_itself_first() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.2.0.1:30303");
    scene.machine.resolve(scene.now, &peer.record()).unwrap();
    let_answer(&mut scene, std::slice::from_ref(&peer), &[]);
    assert_eq!(resolved(&mut scene).unwrap().seq(), 1);
}

#[test]
fn resolve_asks_where_the_table_says_it_is_now() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.2.0.1:30303");
    scene.machine.resolve(scene.now, &peer.moved("24.9.9.9:30303").record()).unwrap();
    let_answer(&mut scene, std::slice::from_ref(&peer), &[]);
    assert_eq!(resolved(&mut scene).unwrap().ip(), peer.at.ip());
}

#[test]
fn resolve_looks_a_moved_node_up() {
    let mut scene = Scene::new();
    let peers = peers(&mut scene, 10);
    scene.bond(&peers[0]);
    let before = peers[7].moved("24.9.9.9:30303").record();
    scene.machine.resolve(scene.now, &before).unwrap();
    let_answer(&mut scene, &peers, &[]);
    let found = resolved(&mut scene).unwrap();
    assert_eq!((found.ip(), found.seq()), (peers[7].at.ip(), 1), "and asks it for its record");
}

#[test]
fn resolutions_are_bounded() {
    let mut scene = Scene::new();
    let gone = scene.peer("24.9.9.9:30303").record();
    let resolved = (0..100).filter(|_| scene.machine.resolve(scene.now, &gone).is_ok()).count();
    assert_eq!(resolved, MAX_LOOKUPS);
    scene.wait(secs(10));
    assert!(scene.machine.resolve(scene.now, &gone).is_ok());
}

#[test]
fn resolve_says_so_when_nobody_knows() {
    let mut scene = Scene::new();
    let peers = peers(&mut scene, 3);
    scene.bond(&peers[0]);
    let gone = scene.peer("24.9.9.9:30303");
    scene.machine.resolve(scene.now, &gone.record()).unwrap();
    let_answer(&mut scene, &peers, &[]);
    assert_eq!(resolved(&mut scene), Err(RequestError::NotFound));
}

// --- The table's checks ---

#[test]
fn a_passed_check_is_to_be_stored_and_missed_ones_remove_the_node() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.2.0.1:30303");
    scene.events();
    let mut stored = false;
    for _ in 0..1000 {
        for sent in scene.wait(ms(100)) {
            if sent.message.kind() == Kind::Ping {
                scene.hears_pong(&peer, &sent).unwrap();
            }
        }
        stored |=
            scene.events().iter().any(|event| matches!(event, Event::Store { record, .. } if record.id() == peer.id()));
    }
    assert!(stored);
    scene.wait(secs(200));
    assert!(!scene.knows(&peer));
    assert!(scene.events().contains(&Event::NodeRemoved(peer.record())));
}

#[test]
fn five_find_failures_in_a_row_remove_a_node_that_still_answers_pings() {
    let mut scene = Scene::new();
    let peers = peers(&mut scene, 30);
    peers.iter().for_each(|peer| scene.bond(peer));
    let before = scene.machine.table().len();
    // They answer pings, and know nobody.
    for _ in 0..10 {
        scene.machine.lookup(scene.now, [3; 64]).unwrap();
        for _ in 0..400 {
            for sent in scene.wait(ms(5)) {
                let Some(peer) = peers.iter().find(|peer| peer.at == sent.to) else { continue };
                match sent.message.kind() {
                    Kind::Ping => scene.hears_pong(peer, &sent).unwrap(),
                    Kind::FindNode => _ = scene.hears_neighbors(peer, Vec::new()),
                    _ => {}
                }
            }
        }
    }
    assert!(scene.machine.table().len() < before);
    assert!(scene.machine.table().len() >= 3, "but buckets stay usable");
}

/// As go-ethereum, whose database keeps the count: whoever never tells of anybody does not begin anew when we do.
#[test]
fn find_failures_are_counted_on_after_a_restart() {
    // A refresh asks everybody four times.
    for (failed_before, is_enough) in [(0, false), (1, true)] {
        let mut rng = StdRng::seed_from_u64(5);
        let peers: Vec<_> = (0..12_u8)
            .map(|n| Peer { secret: SecretKey::random(&mut rng), at: SocketAddr::from(([24, 1, n, 1], 30303)) })
            .collect();
        let last_pong = SystemTime::UNIX_EPOCH + secs(1_700_000_000);
        let seed =
            |peer: &Peer| Seed { record: peer.record(), last_pong, find_failures: failed_before, inbound: false };
        let mut scene = Scene::before_refresh(|config| config.seeds = peers.iter().map(seed).collect());
        let mut stored = Vec::new();
        let mut removed = 0;
        while scene.machine.stats().lookups <= 4 {
            for sent in scene.wait(ms(5)) {
                let Some(peer) = peers.iter().find(|peer| peer.at == sent.to) else { continue };
                match sent.message.kind() {
                    Kind::Ping => scene.hears_pong(peer, &sent).unwrap(),
                    Kind::FindNode => scene.hears_neighbors(peer, Vec::new()).unwrap(),
                    _ => {}
                }
            }
            for event in scene.events() {
                match event {
                    Event::FindFailures { id, ip, failures } if id == peers[0].id() => {
                        assert_eq!(ip, peers[0].at.ip());
                        stored.push(failures);
                    }
                    Event::NodeRemoved(_) => removed += 1,
                    _ => {}
                }
            }
        }
        assert_eq!(stored, (failed_before + 1..=failed_before + 4).collect::<Vec<_>>(), "each is stored");
        assert_eq!(removed > 0, is_enough, "{removed} removed after {failed_before} failures and four");
    }
}
