//! Clocks that are set, and machines that sleep: what the table, the proofs and those who wait make of it.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;

const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;

/// A machine and sixty nodes that answer it at once, ping it now and then, and agree on the time.
struct Crowd {
    scene: Scene,
    peers: Vec<Peer>,
    /// Seconds by which our wall clock is ahead of theirs.
    ahead: i64,
    /// How long since the last of them has pinged us.
    since_ping: Duration,
    pinged: usize,
}

fn set(wall: SystemTime, by: i64) -> SystemTime {
    let step = secs(by.unsigned_abs());
    if by < 0 { wall - step } else { wall + step }
}

impl Crowd {
    /// All of them bonded, the table full of live nodes, two hours after the start.
    fn new() -> Crowd {
        Crowd::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Crowd {
        let mut scene = Scene::with(change);
        scene.wait(secs(10)); // nobody is there yet
        let peers: Vec<Peer> = (0..60).map(|n| scene.peer(&format!("24.3.{n}.1:30303"))).collect();
        peers.iter().for_each(|peer| scene.bond(peer));
        let mut crowd = Crowd { scene, peers, ahead: 0, since_ping: Duration::ZERO, pinged: 0 };
        crowd.pass(secs(2 * 3600));
        assert!(crowd.live() >= 30, "{} live nodes", crowd.live());
        crowd
    }

    fn live(&self) -> usize {
        self.scene.machine.table().entries().filter(|entry| entry.is_live()).count()
    }

    /// What the others' clocks say.
    fn their_time(&self) -> u64 {
        self.scene.now.unix_seconds().saturating_add_signed(-self.ahead)
    }

    /// Our wall clock is set; nothing else happens.
    fn set_clock(&mut self, by: i64) {
        self.scene.now.wall = set(self.scene.now.wall, by);
        self.ahead += by;
    }

    /// Time passes without us: nothing is read, sent, or found to be due. The others' clocks go on by `wall`.
    fn sleep(&mut self, monotonic: Duration, wall: Duration) {
        self.scene.now.monotonic += monotonic;
        self.scene.now.wall += wall;
    }

    /// Time passes; whoever is asked answers, if its clock lets it.
    fn pass(&mut self, span: Duration) {
        let until = self.scene.now.monotonic + span;
        while self.scene.now.monotonic < until {
            for sent in self.scene.wait(ms(100)) {
                self.answer(&sent);
            }
            self.since_ping += ms(100);
            if self.since_ping >= secs(10) {
                self.since_ping = Duration::ZERO;
                self.pinged += 1;
                let peer = self.peers[self.pinged % self.peers.len()].clone();
                let Message::Ping(ping) = self.scene.ping(&peer) else { unreachable!() };
                let expiration = self.their_time() + 20;
                _ = self.scene.hears(&peer, Message::Ping(Ping { expiration, ..ping }));
            }
        }
    }

    fn answer(&mut self, sent: &Sent) {
        let Some(peer) = self.peers.iter().find(|peer| peer.at == sent.to).cloned() else { return };
        let theirs = self.their_time();
        if sent.message.expiration().is_some_and(|expiration| expiration < theirs) {
            return; // too late, for all they know
        }
        let expiration = theirs + 20;
        let answer = match &sent.message {
            Message::Ping(_) => {
                let Message::Pong(pong) = self.scene.pong_to(sent, None) else { unreachable!() };
                Message::Pong(Pong { expiration, ..pong })
            }
            Message::FindNode(_) => {
                // Others each time, so that everybody is found by and by.
                let known = self.peers.iter().cycle().skip(theirs as usize % self.peers.len()).take(12);
                let nodes = known.map(|peer| Neighbor::from(&peer.record())).collect();
                Message::Neighbors(Neighbors { nodes, skipped: 0, expiration })
            }
            _ => return,
        };
        _ = self.scene.hears(&peer, answer);
    }

    /// How far off the machine says that its clock is, if it has said so; once at most.
    fn told(&mut self) -> Option<i64> {
        let mut told = self.scene.events().into_iter().filter_map(|event| match event {
            Event::ClockOff { ahead } => Some(ahead),
            _ => None,
        });
        let first = told.next();
        assert_eq!(told.next(), None, "told twice");
        first
    }
}

/// Twenty minutes with a wrong clock: we refuse their packets or they refuse ours, and nobody is forgotten. With the right
/// time all goes on at once.
#[test]
fn a_clock_that_is_set_wrong_and_right_again_costs_nobody_its_place() {
    for step in [HOUR, -HOUR, 10 * YEAR, -50 * YEAR, 60, -60] {
        let mut crowd = Crowd::new();
        let (live, bonds) = (crowd.live(), crowd.scene.machine.bonds());
        crowd.scene.events();
        crowd.set_clock(step);
        crowd.pass(secs(20 * 60));
        assert!(crowd.live() * 100 >= live * 85, "{} of {live} live after a step of {step} s", crowd.live());
        // Whoever is an hour behind is told so by those who ping it; nobody else speaks to it.
        let told = crowd.told().expect("not told");
        assert!((told - step).abs() <= 60, "told {told} of {step} s");
        crowd.set_clock(-step);
        let asker = crowd.peers[7].clone();
        assert_eq!(crowd.scene.hears_find_node(&asker, [1; 64]), Ok(()), "its proof is as good as before");
        crowd.pass(secs(60));
        assert!(crowd.live() * 100 >= live * 85 && crowd.scene.machine.bonds() >= bonds);
        assert_eq!(crowd.scene.machine.clock_ahead(), None, "right again");
    }
}

/// The clock had been wrong, as on a machine without a battery, and the others with it or not there yet; now it is right.
#[test]
fn a_clock_that_is_set_right_expires_nothing() {
    for step in [HOUR, -HOUR, 10 * YEAR, -10 * YEAR] {
        let mut crowd = Crowd::new();
        let live = crowd.live();
        crowd.scene.now.wall = set(crowd.scene.now.wall, step); // theirs as well
        crowd.pass(secs(10 * 60));
        assert_eq!(crowd.live(), live, "after a step of {step} s");
        assert_eq!(crowd.told(), None);
        let rejected = crowd.scene.machine.stats().rejected;
        assert_eq!((rejected.get(Rejected::Expired), rejected.get(Rejected::TooFarAhead)), (0, 0));
    }
}

/// Eight hours asleep. Linux stops the monotonic clock meanwhile, others do not; either way the table is there afterwards,
/// whom we know may ask on, and the first minute is no storm of checks.
#[test]
fn eight_hours_of_sleep_cost_nobody_its_place() {
    let night = secs(8 * 3600);
    for monotonic in [Duration::ZERO, night] {
        let mut crowd = Crowd::new();
        let (live, bonds) = (crowd.live(), crowd.scene.machine.bonds());
        crowd.sleep(monotonic, night);
        let asker = crowd.peers[7].clone();
        assert_eq!(crowd.scene.hears_find_node(&asker, [1; 64]), Ok(()));
        let sent = crowd.scene.sent().len() + crowd.scene.wait(ms(1)).len();
        assert!(sent < 20, "{sent} packets at once");
        crowd.pass(secs(60));
        assert_eq!((crowd.live(), crowd.scene.machine.bonds()), (live, bonds));
    }
}

/// After two days asleep all proofs have ended, ours and theirs: they are renewed by the first question.
#[test]
fn proofs_that_ended_in_sleep_are_renewed() {
    let mut crowd = Crowd::new();
    let live = crowd.live();
    crowd.sleep(secs(48 * 3600), secs(48 * 3600));
    let asker = crowd.peers[7].clone();
    assert_eq!(crowd.scene.hears_find_node(&asker, [1; 64]), Err(Rejected::NoEndpointProof));
    crowd.scene.bond(&asker);
    assert_eq!(crowd.scene.hears_find_node(&asker, [1; 64]), Ok(()));
    crowd.pass(secs(10 * 60));
    assert_eq!(crowd.live(), live);
}

/// What was under way when the machine fell asleep says why it has no answer, and is held against nobody.
#[test]
fn what_was_under_way_is_interrupted_and_nobody_is_blamed() {
    for (monotonic, wall) in [(8 * HOUR, 8 * HOUR), (0, 8 * HOUR), (0, -8 * HOUR), (3, 3)] {
        let mut scene = Scene::new();
        let peer = scene.bonded("24.3.1.1:30303");
        let request = scene.machine.ping(scene.now, &peer.record()).unwrap();
        scene.events();
        scene.now.monotonic += secs(monotonic.unsigned_abs());
        scene.now.wall = set(scene.now.wall, wall);
        scene.machine.handle_timeout(scene.now);
        assert_eq!(scene.outcome(), None, "its answer may be here and unread");
        scene.wait(secs(1));
        let interrupted = Event::RequestDone { request, outcome: Err(RequestError::Interrupted) };
        assert!(scene.events().contains(&interrupted), "asleep for {monotonic} s, {wall} s by the wall clock");
        assert!(scene.knows(&peer));
    }
}

#[test]
fn a_check_that_slept_through_its_answer_is_not_missed() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.3.1.1:30303");
    let checks = |scene: &Scene| scene.machine.table().get(&peer.id()).map(|entry| (entry.checks(), entry.is_live()));
    let before = checks(&scene);
    // Its ping has been repeated for the last time when the machine falls asleep.
    let mut pings = 0;
    while pings < 3 {
        for sent in scene.wait(ms(10)) {
            match sent.message.kind() {
                Kind::Ping => pings += 1,
                // The refresh: answered, so that no ping follows to prove ourselves.
                _ => _ = scene.hears_neighbors(&peer, Vec::new()),
            }
        }
    }
    scene.now = scene.now.after(secs(8 * 3600));
    scene.wait(ms(600));
    assert_eq!(checks(&scene), before);
    assert_eq!(before, Some((1, true)));
}

/// No network at all: half an hour of silence is taken for our own fault, and those who were alive stay.
#[test]
fn half_an_hour_without_a_network_costs_nobody_its_place() {
    let mut crowd = Crowd::new();
    let live = crowd.live();
    for _ in 0..29 {
        // Whoever is asked meanwhile has no answer to give, and is not to blame for that either.
        crowd.scene.machine.lookup(crowd.scene.now, [7; 64]).unwrap();
        crowd.scene.wait(secs(60));
    }
    assert!(crowd.live() * 100 >= live * 85, "{} of {live}", crowd.live());
    crowd.pass(secs(60));
    assert!(crowd.live() * 100 >= live * 85, "{} of {live}", crowd.live());
    crowd.scene.wait(secs(3 * 3600));
    assert_eq!(crowd.live(), 0, "but three hours are more than that");
}

/// A bootnode that has no place in the table, since its network has its share: nobody asks it as long as there are others. In
/// a silence each refresh does.
#[test]
fn in_a_silence_a_bootnode_without_a_place_is_asked_too() {
    let mut maker = Scene::before_refresh(|_| {});
    let us = maker.secret.public().node_id();
    let mut far = |at: &str| {
        std::iter::repeat_with(|| maker.peer(at)).find(|peer| peer.id().log_distance(&us) == 256).expect("half of all")
    };
    let (bootnode, neighbors) = (far("24.9.9.9:30303"), ["24.9.9.1:30303", "24.9.9.2:30303"].map(&mut far));
    let others: Vec<_> = (0..12).map(|n| far(&format!("24.8.{n}.1:30303"))).collect();
    let mut scene = Scene::before_refresh(|config| {
        config.bootnodes = vec![bootnode.record()];
        // Checks come quickly, or questions that bring nothing would cost nodes their places before it is a silence.
        config.table.fast_check = ms(100);
        config.table.revalidation = crate::table::Revalidation::FastSlow { slow: ms(100) };
    });
    for peer in neighbors.iter().chain(&others) {
        scene.machine.table.add_found(scene.now.monotonic, &peer.record()).unwrap();
        scene.machine.table.answered(scene.now.monotonic, &peer.id(), peer.at);
    }
    scene.machine.handle_timeout(scene.now);
    let hears_nobody = |scene: &Scene| scene.machine.table().hears_nobody(scene.now.monotonic);
    while !hears_nobody(&scene) {
        assert!(scene.wait(ms(100)).iter().all(|sent| sent.to != bootnode.at));
    }
    let sent = scene.wait(secs(130)); // two minutes are the longest pause of a lonely refresh
    assert!(sent.iter().any(|sent| sent.to == bootnode.at), "not asked");
    assert!(neighbors.iter().all(|peer| scene.knows(peer)) && !scene.knows(&bootnode), "there is no place for it");
    scene.machine.ping(scene.now, &bootnode.record()).unwrap();
    let ping = scene.sent().into_iter().rfind(|sent| sent.to == bootnode.at).unwrap();
    scene.hears_pong(&bootnode, &ping).unwrap();
    assert!(!hears_nobody(&scene), "one answer of anybody ends it");
}

/// Everybody is gone for good except the bootnode, whose bucket is full: a refresh in the silence finds it.
#[test]
fn in_a_silence_the_bootnodes_are_asked_first() {
    let mut rng = StdRng::seed_from_u64(9);
    let mut bootnode = Peer { secret: SecretKey::random(&mut rng), at: "24.9.9.9:30303".parse().unwrap() };
    let mut crowd = Crowd::with(|config| {
        while config.key.node_id().log_distance(&bootnode.id()) < 256 {
            bootnode.secret = SecretKey::random(&mut rng);
        }
        config.bootnodes = vec![bootnode.record()];
    });
    let live = crowd.live();
    crowd.scene.wait(secs(15 * 60));
    assert!(!crowd.scene.knows(&bootnode), "a replacement at best");
    assert!(crowd.live() * 100 >= live * 85, "the others still have their places");
    // Now it is back, and the others are not. Two minutes are the longest pause of a lonely refresh.
    crowd.peers = vec![bootnode.clone()];
    let hears_nobody = |crowd: &Crowd| crowd.scene.machine.table().hears_nobody(crowd.scene.now.monotonic);
    assert!(hears_nobody(&crowd));
    let mut waited = Duration::ZERO;
    while hears_nobody(&crowd) && waited < secs(130) {
        waited += ms(100);
        crowd.scene.wait(ms(100)).iter().for_each(|sent| crowd.answer(sent)); // it does not ping us by itself
    }
    assert!(waited < secs(130), "not asked");
}

/// Seeds from a future that never was, and from long ago, by a clock that has been set since.
#[test]
fn seeds_of_any_time_are_taken_for_what_they_are() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut peer = |n: u8| Peer { secret: SecretKey::random(&mut rng), at: SocketAddr::from(([24, 5, n, 1], 30303)) };
    let (recent, future, ancient) = (peer(1), peer(2), peer(3));
    let now = Now::read();
    let seeds = vec![
        Seed { record: recent.record(), last_pong: now.wall - secs(60), find_failures: 0, inbound: false },
        Seed { record: future.record(), last_pong: set(now.wall, 10 * YEAR), find_failures: 0, inbound: false },
        Seed { record: ancient.record(), last_pong: UNIX_EPOCH, find_failures: 0, inbound: false },
    ];
    let mut scene = Scene::with(|config| config.seeds = seeds);
    assert!(scene.knows(&recent) && scene.knows(&future) && !scene.knows(&ancient));
    assert_eq!(scene.hears_find_node(&future, [1; 64]), Ok(()), "as good as a pong of just now");
    assert_eq!(scene.hears_find_node(&ancient, [1; 64]), Err(Rejected::NoEndpointProof));
    scene.now = scene.now.after(secs(24 * 3600));
    assert_eq!(scene.hears_find_node(&future, [1; 64]), Err(Rejected::NoEndpointProof), "and no better");
}

/// One node whose clock is an hour and more ahead is refused; that is counted, and taken for its own fault.
#[test]
fn a_peer_with_a_fast_clock_is_refused_and_counted() {
    let mut crowd = Crowd::new();
    let fast = crowd.peers[5].clone();
    let Message::Ping(ping) = crowd.scene.ping(&fast) else { unreachable!() };
    for _ in 0..50 {
        let expiration = crowd.their_time() + 3700;
        let heard = crowd.scene.hears(&fast, Message::Ping(Ping { expiration, ..ping }));
        assert_eq!(heard, Err(Rejected::TooFarAhead));
        crowd.pass(secs(1));
    }
    assert_eq!(crowd.scene.machine.stats().rejected.get(Rejected::TooFarAhead), 50);
    assert_eq!(crowd.told(), None);
}

/// On a machine that is stopped again and again nobody waits for ever.
#[test]
fn requests_end_though_the_machine_is_late_each_time() {
    let mut scene = Scene::new();
    let peer = scene.peer("24.0.1.1:30303");
    scene.machine.ping(scene.now, &peer.record()).unwrap();
    for _ in 0..10 {
        scene.sent();
        scene.now = scene.now.after(secs(3));
        scene.machine.handle_timeout(scene.now);
    }
    assert_eq!(scene.outcome(), Some(Err(RequestError::Interrupted)));
}
