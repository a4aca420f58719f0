//! Whom we deal with: nothing leaves for anybody else, whoever names the address.

use super::*;

/// A machine whose socket speaks `families`, past its first refresh.
fn speaking(families: Families) -> Scene {
    Scene::with(|config| {
        config.reach.families = families;
        config.endpoint.explicit_ips.clear();
    })
}

fn public_only() -> Scene {
    Scene::with(|config| config.reach.public_only = true)
}

/// A peer's record with an endpoint in each family.
fn of_both(peer: &Peer, v4: &str, v6: &str, seq: u64) -> Enr {
    let builder = Enr::builder(seq).ip(v4.parse().unwrap()).udp(30303).ip6(v6.parse().unwrap()).udp6(30306);
    builder.sign(&peer.secret).unwrap()
}

const NOT_PUBLIC: [&str; 8] = [
    "10.0.0.1:30303",
    "192.168.1.9:30303",
    "100.64.0.9:30303",
    "169.254.1.1:30303",
    "127.0.0.1:30303",
    "198.18.0.1:30303",
    "[fd00::1]:30303",
    "[fe80::1]:30303",
];

#[test]
fn a_ping_from_a_private_address_is_not_answered() {
    let mut scene = public_only();
    for at in NOT_PUBLIC {
        let stranger = scene.peer(at);
        assert_eq!(scene.hears_ping(&stranger), Err(Rejected::NotAllowed), "{at}");
        assert!(scene.sent().is_empty(), "{at}");
    }
    assert_eq!(scene.machine.stats().rejected.get(Rejected::NotAllowed), NOT_PUBLIC.len() as u64);
    scene.bonded("24.0.1.1:30303");
    scene.bonded("[2a00::1]:30303");
}

#[test]
fn neighbours_with_private_addresses_are_never_asked() {
    // The peer is on loopback, so that the relay rule lets it speak of private addresses: only `public_only` is in the way.
    let mut scene = Scene::new();
    let peer = scene.bonded("127.0.0.1:30303");
    let nodes: Vec<_> = NOT_PUBLIC.iter().map(|at| Neighbor::from(&scene.peer(at).record())).collect();
    scene.machine.reach.public_only = true;
    let refused = nodes.iter().filter(|node| scene.machine.judge_neighbor(peer.at.ip(), node).is_none()).count();
    assert_eq!(refused, nodes.len());

    // Shared addresses (CGNAT) are not special to the relay rule: a public peer may name them.
    let mut scene = public_only();
    let peer = scene.bonded("24.0.1.1:30303");
    let (shared, public) = (scene.peer("100.64.0.9:30303"), scene.peer("24.0.2.1:30303"));
    scene.machine.lookup(scene.now, [7; 64]).unwrap();
    scene.sent_one(Kind::FindNode);
    let nodes = vec![Neighbor::from(&shared.record()), Neighbor::from(&public.record())];
    scene.hears_neighbors(&peer, nodes).unwrap();
    let asked: Vec<_> = scene.wait(secs(5)).into_iter().map(|sent| sent.to).collect();
    assert!(asked.contains(&public.at) && !asked.contains(&shared.at), "{asked:?}");
    assert_eq!(scene.machine.stats().neighbors_refused, 1);
}

#[test]
fn bootnodes_seeds_and_the_owners_own_questions_obey_too() {
    let (private, mut rng) = ("192.168.1.9:30303", StdRng::seed_from_u64(9));
    let node = Peer { secret: SecretKey::random(&mut rng), at: private.parse().unwrap() };
    let mut scene = Scene::before_refresh(|config| {
        config.reach.public_only = true;
        config.bootnodes.push(node.record());
        config.seeds.push(Seed {
            record: node.record(),
            last_pong: Now::read().wall,
            find_failures: 0,
            inbound: false,
        });
    });
    assert!(scene.wait(secs(60)).is_empty(), "nobody is left to begin with");
    for request in [
        scene.machine.ping(scene.now, &node.record()),
        scene.machine.find_node(scene.now, &node.record(), [1; 64]),
        scene.machine.request_enr(scene.now, &node.record()),
    ] {
        assert_eq!(request, Err(RequestError::NotAllowed));
    }
    assert_eq!(scene.machine.stats().sends_withheld, 3);
    assert!(scene.sent().is_empty());
}

#[test]
fn the_last_gate_holds_even_if_all_others_were_open() {
    let mut scene = public_only();
    let peer = scene.peer("24.0.0.9:1");
    let message = scene.ping(&peer);
    for at in NOT_PUBLIC {
        scene.machine.transmit(Transmit { to: at.parse().unwrap(), message: message.clone(), request: None });
    }
    assert!(scene.sent().is_empty());
    assert_eq!(scene.machine.stats().sends_withheld, NOT_PUBLIC.len() as u64);
}

#[test]
fn a_record_that_moves_a_node_to_a_private_address_moves_nothing() {
    let mut scene = public_only();
    let peer = scene.bonded("24.0.1.1:30303");
    scene.machine.request_enr(scene.now, &peer.record()).unwrap();
    let request = scene.sent_one(Kind::EnrRequest);
    let moved = peer.moved("100.64.0.9:30303").enr(9);
    scene.hears_enr(&peer, &request, moved).unwrap();
    assert_eq!(scene.machine.table().get(&peer.id()).unwrap().record().endpoint(), peer.at);
}

// --- Families ---

#[test]
fn a_socket_of_one_family_does_not_try_the_other() {
    for (families, inside, outside) in
        [(Families::V4, "24.0.1.1:30303", "[2a00::1]:30303"), (Families::V6, "[2a00::1]:30303", "24.0.1.1:30303")]
    {
        let mut scene = speaking(families);
        let (near, far) = (scene.bonded(inside), scene.peer(outside));
        assert_eq!(scene.machine.ping(scene.now, &far.record()), Err(RequestError::NotAllowed));
        scene.machine.lookup(scene.now, [7; 64]).unwrap();
        scene.sent_one(Kind::FindNode);
        scene.hears_neighbors(&near, vec![Neighbor::from(&far.record())]).unwrap();
        assert!(scene.wait(secs(5)).iter().all(|sent| sent.to != far.at), "{families:?}");
    }
    let mut scene = speaking(Families::Both);
    scene.bonded("24.0.1.1:30303");
    scene.bonded("[2a00::1]:30303");
}

#[test]
fn a_node_of_both_families_is_asked_over_ours() {
    let (mut rng, families) = (StdRng::seed_from_u64(9), [Families::V4, Families::V6, Families::Both]);
    for (families, at) in families.into_iter().zip(["24.0.1.1:30303", "[2a00::1]:30306", "24.0.1.1:30303"]) {
        let node = Peer { secret: SecretKey::random(&mut rng), at: at.parse().unwrap() };
        let record = NodeRecord::from_enr(of_both(&node, "24.0.1.1", "2a00::1", 1)).unwrap();
        let mut scene = Scene::before_refresh(|config| {
            config.reach.families = families;
            config.bootnodes.push(record);
        });
        let asked: Vec<_> = scene.wait(secs(1)).iter().map(|sent| sent.to).collect();
        assert!(!asked.is_empty() && asked.iter().all(|to| *to == node.at), "{families:?}: {asked:?}");
    }
}

#[test]
fn a_newer_record_does_not_move_a_node_from_the_family_it_is_reached_in() {
    for families in [Families::V6, Families::Both] {
        let mut scene = speaking(families);
        let peer = scene.bonded("[2a00::1]:30306");
        scene.machine.request_enr(scene.now, &peer.record()).unwrap();
        let request = scene.sent_one(Kind::EnrRequest);
        let record = of_both(&peer, "24.0.1.1", "2a00::1", 9);
        scene.hears_enr(&peer, &request, record.clone()).unwrap();
        assert_eq!(scene.outcome(), Some(Ok(Answer::Enr(record))));
        let entry = scene.machine.table().get(&peer.id()).unwrap();
        assert_eq!((entry.record().endpoint(), entry.record().seq()), (peer.at, 9), "{families:?}");
    }
}

/// What an earlier run has proven of one endpoint is not proven of the other, to which nobody may have our answers sent.
#[test]
fn a_stored_proof_is_of_the_endpoint_that_answered() {
    for families in [Families::V4, Families::Both] {
        let peer = Peer { secret: SecretKey::from_bytes(&[9; 32]).unwrap(), at: "[2a00::1]:30306".parse().unwrap() };
        let enr = of_both(&peer, "24.0.1.1", "2a00::1", 1);
        let record = NodeRecord::from_enr_where(enr, |ip| ip.is_ipv6()).unwrap();
        let mut scene = Scene::before_refresh(|config| {
            config.reach.families = families;
            config.seeds.push(Seed {
                record,
                last_pong: SystemTime::UNIX_EPOCH + secs(1_700_000_000),
                find_failures: 0,
                inbound: false,
            });
        });
        let v4 = peer.moved("24.0.1.1:30303");
        assert_eq!(scene.hears_find_node(&v4, [1; 64]), Err(Rejected::NoEndpointProof), "{families:?}");
        assert_eq!(scene.hears_find_node(&peer, [1; 64]).is_ok(), families == Families::Both);
    }
}

// --- The vote ---

#[test]
fn only_those_who_answer_our_pings_vote_and_each_family_by_itself() {
    let mut scene = speaking(Families::Both);
    let (us_v4, us_v6): (SocketAddr, SocketAddr) =
        ("23.9.9.9:4444".parse().unwrap(), "[2a00:9::9]:6666".parse().unwrap());
    // Whoever only pings us names an endpoint too, and it counts for nothing; nor does a pong that nobody awaits.
    for n in 0..20 {
        let stranger = scene.peer(&format!("25.0.{n}.1:30303"));
        scene.hears_ping(&stranger).unwrap();
        scene.sent();
        let pong =
            Pong { to: Endpoint::new(us_v4, 0), ping_hash: [n; 32], expiration: scene.expiration(), enr_seq: None };
        assert_eq!(scene.hears(&stranger, Message::Pong(pong)), Err(Rejected::Unsolicited));
    }
    assert_eq!((scene.machine.local_content().v4, scene.machine.local_content().v6), (None, None));

    let vote = |scene: &mut Scene, at: String, us: SocketAddr| {
        let peer = scene.peer(&at);
        scene.hears_ping(&peer).unwrap();
        let ping = scene.sent().into_iter().find(|sent| sent.message.kind() == Kind::Ping).unwrap();
        let expiration = scene.expiration();
        let pong = Pong { to: Endpoint::new(us, 0), ping_hash: ping.hash, expiration, enr_seq: None };
        scene.hears(&peer, Message::Pong(pong)).unwrap();
        scene.sent();
    };
    (0..30).for_each(|host| vote(&mut scene, format!("26.0.0.{}:30303", host + 1), us_v4));
    (0..9).for_each(|net| vote(&mut scene, format!("26.1.{net}.1:30303"), us_v4));
    assert_eq!(scene.machine.local_content().v4, "23.9.9.9:4444".parse().ok(), "ten networks");
    assert_eq!(scene.machine.local_content().v6, None);
    (0..10).for_each(|net| vote(&mut scene, format!("[2a01:0:{net}::1]:30303"), us_v6));
    assert_eq!(scene.machine.local_content().v6, "[2a00:9::9]:6666".parse().ok());

    // A gateway's word goes before the vote, and comes and goes.
    let ip = "23.8.8.8".parse().unwrap();
    let changes =
        |scene: &mut Scene| scene.events().into_iter().filter(|e| matches!(e, Event::LocalRecordChanged(_))).count();
    changes(&mut scene);
    for _ in 0..3 {
        scene.machine.set_external(&[ExternalEndpoint { ip, udp: Some(5), tcp: [None; 2] }]);
    }
    assert_eq!(scene.machine.local_content().v4, "23.8.8.8:5".parse().ok());
    assert_eq!(changes(&mut scene), 1, "the same word again is no change");
    scene.machine.set_external(&[]);
    assert_eq!(scene.machine.local_content().v4, "23.9.9.9:4444".parse().ok());
}
