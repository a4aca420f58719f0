//! The PEX machine by itself, on virtual time.

use super::*;

fn id(n: u8) -> PeerId {
    PeerId::Tendermint([n; 20])
}

fn address(n: u8) -> PeerAddress {
    format!("{}@10.0.0.{n}:26656", id(n)).parse().unwrap()
}

fn addresses(n: u8) -> PexMessage {
    PexMessage::addresses((1..=n).map(address).collect())
}

fn answer(to: PeerId) -> Action {
    Action::Answer { to, version: Version::V1, most: 250 }
}

fn answer_v2(to: PeerId) -> Action {
    Action::Answer { to, version: Version::V2, most: 100 }
}

/// A machine, its virtual time, and what it last asked for.
struct Story {
    pex: Pex,
    start: Now,
    now: Now,
}

impl Story {
    fn new() -> Self {
        let now = Now::read();
        let mut pex = Pex::new(now, 1);
        pex.handle_timeout(now);
        assert_eq!(pex.poll_action(), Some(Action::CheckBook), "the book is looked at at once");
        Self { pex, start: now, now }
    }

    fn at(&mut self, seconds: u64) -> &mut Self {
        self.now = self.start.after(Duration::from_secs(seconds));
        self
    }

    fn up(&mut self, peer: u8, dialed: bool) -> &mut Self {
        self.pex.handle_peer_up(self.now, id(peer), dialed, Some(PeerAddress::memory([peer; 20])), None);
        self
    }

    fn message(&mut self, from: u8, message: PexMessage) -> &mut Self {
        self.pex.handle_message(self.now, id(from), &message.encode());
        self
    }

    fn book(&mut self, wants_more: bool) -> &mut Self {
        self.pex.handle_book(self.now, wants_more);
        self
    }

    fn down(&mut self, peer: u8) -> &mut Self {
        self.pex.handle_peer_down(self.now, id(peer));
        self
    }

    fn expect<const N: usize>(&mut self, actions: [Action; N]) -> &mut Self {
        self.expect_all(actions.into())
    }

    fn expect_all(&mut self, actions: Vec<Action>) -> &mut Self {
        let done: Vec<_> = std::iter::from_fn(|| self.pex.poll_action()).collect();
        assert_eq!(done, actions);
        self
    }
}

#[test]
fn a_dialed_peer_is_asked_at_once_and_its_answer_is_learned() {
    Story::new()
        .up(9, true)
        .expect([Action::Ask(id(9))])
        .message(9, addresses(3))
        .expect([Action::Learned(id(9), (1..=3).map(address).collect())])
        // With enough in the book nobody is asked, old or new.
        .at(20)
        .book(false)
        .expect([])
        .up(8, true)
        .expect([]);
}

#[test]
fn a_peer_that_dialed_us_is_not_asked_but_looked_into() {
    Story::new().up(9, false).expect([Action::Introduced(PeerAddress::memory([9; 20]))]);
}

/// A node with an `external_address`: neither what it declares nor what we see is believed before it is found there.
#[test]
fn an_address_that_a_peer_declares_is_looked_into_and_not_kept() {
    let mut story = Story::new();
    story.pex.handle_peer_up(story.now, id(9), false, Some(address(1)), Some(address(2)));
    story.expect([Action::Introduced(address(1)), Action::Introduced(address(2))]);
    assert_eq!(story.pex.stats().introduced, 1);
    story.pex.handle_peer_up(story.now, id(8), true, Some(address(1)), Some(address(2)));
    story.expect([Action::Ask(id(8))]);
}

#[test]
fn only_one_request_is_outstanding_and_none_comes_too_soon() {
    Story::new()
        .up(9, true)
        .expect([Action::Ask(id(9))])
        .at(60)
        .book(true)
        .expect([])
        .message(9, addresses(0))
        .expect([Action::Learned(id(9), vec![])])
        .book(true)
        .expect([Action::Ask(id(9))])
        .message(9, addresses(0))
        .expect([Action::Learned(id(9), vec![])])
        // CometBFT bans who asks twice within 10 s.
        .at(74)
        .book(true)
        .expect([])
        .at(75)
        .book(true)
        .expect([Action::Ask(id(9))]);
}

#[test]
fn a_request_that_was_not_sent_is_not_waited_for() {
    let mut story = Story::new();
    story.up(9, true).expect([Action::Ask(id(9))]);
    story.pex.handle_unsent(&id(9));
    story.at(20).book(true).expect([Action::Ask(id(9))]);
}

#[test]
fn addresses_nobody_asked_for_are_misbehaviour() {
    Story::new()
        .up(9, false)
        .expect([Action::Introduced(PeerAddress::memory([9; 20]))])
        .message(9, addresses(3))
        .expect([Action::Report(id(9), Report::Misbehaved)])
        // So is a second answer to one request.
        .up(8, true)
        .expect([Action::Ask(id(8))])
        .message(8, addresses(0))
        .message(8, addresses(3))
        .expect([Action::Learned(id(8), vec![]), Action::Report(id(8), Report::Misbehaved)]);
}

#[test]
fn bytes_that_are_no_message_are_misbehaviour() {
    let mut story = Story::new();
    story.book(false).up(9, true);
    story.pex.handle_message(story.now, id(9), &[0xff; 7]);
    story.expect([Action::Report(id(9), Report::Misbehaved)]);
    assert_eq!(story.pex.stats().malformed, 1);
}

#[test]
fn who_asks_in_the_second_version_is_answered_in_it() {
    let id = PeerId::Tendermint([1; 20]);
    let named: PeerAddress = format!("{id}@seed.example.org:26656").parse().unwrap();
    Story::new()
        .up(9, true)
        .expect([Action::Ask(self::id(9))])
        .message(9, PexMessage::RequestV2)
        .expect([answer_v2(self::id(9))])
        .message(9, PexMessage::addresses_v2(vec![named.clone(), address(2)]))
        // The book refuses names, and says so.
        .expect([Action::Learned(self::id(9), vec![named, address(2)])])
        .message(9, PexMessage::addresses_v2(vec![]))
        .expect([Action::Report(self::id(9), Report::Misbehaved)]);
}

#[test]
fn both_versions_share_one_allowance() {
    let mut story = Story::new();
    story.book(false).up(9, true);
    for version in [PexMessage::Request, PexMessage::RequestV2, PexMessage::Request, PexMessage::RequestV2] {
        story.message(9, version);
    }
    story.expect([answer(id(9)), answer_v2(id(9)), answer(id(9))]);
}

#[test]
fn tendermint_0_35_is_sent_a_hundred_addresses_in_either_version() {
    let mut story = Story::new();
    story.book(false).up(9, true);
    story.pex.limit_answers(&id(9), 100);
    story.message(9, PexMessage::Request).message(9, PexMessage::RequestV2);
    story.expect([Action::Answer { to: id(9), version: Version::V1, most: 100 }, answer_v2(id(9))]);
}

#[test]
fn a_message_of_a_later_version_costs_score_only() {
    let mut story = Story::new();
    story.book(false).up(9, true);
    for _ in 0..20 {
        story.pex.handle_message(story.now, id(9), &[0x2a, 0]);
        story.expect([Action::Report(id(9), Report::Bad)]);
    }
    assert_eq!((story.pex.stats().unknown, story.pex.stats().malformed), (20, 0));
}

#[test]
fn an_answer_may_come_on_the_next_connection() {
    let mut story = Story::new();
    story.up(9, true).expect([Action::Ask(id(9))]).down(9);
    // What it sends now nobody reads: it is gone.
    story.message(9, addresses(1)).expect([]);
    // It was asked a moment ago, so it is not asked again at once. Its answer to that comes now.
    story.up(9, true).expect([]).message(9, addresses(1)).expect([Action::Learned(id(9), vec![address(1)])]);
    story.message(9, addresses(1)).expect([Action::Report(id(9), Report::Misbehaved)]);
}

#[test]
fn who_was_long_gone_begins_anew() {
    let mut story = Story::new();
    story.up(9, true).expect([Action::Ask(id(9))]).down(9).at(60).up(9, true).expect([Action::Ask(id(9))]);
    story.message(9, addresses(0)).message(9, addresses(0));
    story.expect([Action::Learned(id(9), vec![]), Action::Report(id(9), Report::Misbehaved)]);
}

#[test]
fn reconnecting_gives_no_new_allowance() {
    let mut story = Story::new();
    story.book(false).up(9, true);
    for n in 0..10 {
        let answered = if n < 3 { vec![answer(id(9))] } else { vec![] };
        story.message(9, PexMessage::Request).expect_all(answered).down(9).up(9, true);
    }
}

#[test]
fn honest_askers_are_answered_and_insistent_ones_reported() {
    let mut story = Story::new();
    story.book(false).up(9, true).up(8, true);
    for second in (0..600).step_by(10) {
        story.at(second).message(9, PexMessage::Request).expect([answer(id(9))]);
    }
    for _ in 0..3 {
        story.message(8, PexMessage::Request).expect([answer(id(8))]);
    }
    for _ in 0..7 {
        story.message(8, PexMessage::Request).expect([]);
    }
    story.message(8, PexMessage::Request).expect([Action::Report(id(8), Report::Misbehaved)]);
    assert_eq!(story.pex.stats().too_frequent, 8);
}

/// CometBFT asks whom it dialed at once; its first round comes after up to 30 s, at a phase of its own, and then every 30 s. Each message
/// is up to 2 s on its way.
#[test]
fn cometbfts_own_client_is_always_answered_whatever_its_phase() {
    for phase in 0..30 {
        let mut rng = StdRng::seed_from_u64(phase);
        let mut story = Story::new();
        story.book(false).up(9, false);
        story.expect([Action::Introduced(PeerAddress::memory([9; 20]))]);
        story.message(9, PexMessage::Request).expect([answer(id(9))]);
        for round in 0..100 {
            let delay = rng.random_range(0..2_000);
            story.now = story.start.after(Duration::from_millis((phase + 30 * round) * 1_000 + delay));
            story.message(9, PexMessage::Request).expect([answer(id(9))]);
        }
        assert_eq!(story.pex.stats().too_frequent, 0, "phase {phase}");
    }
}

/// A client that loses its connection dials again after 5 to 8 s (CometBFT `reconnectToPeer`) and asks each time (cometbft #4620).
#[test]
fn a_client_that_reconnects_again_and_again_is_not_banned() {
    for every in [5, 6, 8, 13] {
        let mut story = Story::new();
        story.book(false);
        for second in (0..600).step_by(every) {
            story.at(second).up(9, false).message(9, PexMessage::Request).down(9);
        }
        let done: Vec<_> = std::iter::from_fn(|| story.pex.poll_action()).collect();
        assert!(!done.contains(&Action::Report(id(9), Report::Misbehaved)), "every {every} s");
        let answered = done.iter().filter(|action| **action == answer(id(9))).count();
        assert!(answered >= 600 / 13, "every {every} s: {answered}");
    }
}

#[test]
fn the_book_is_looked_at_about_every_half_minute() {
    let mut story = Story::new();
    for _ in 0..100 {
        let wait = story.pex.poll_timeout() - story.now.monotonic;
        assert!((22..=38).contains(&wait.as_secs()), "{wait:?}");
        story.pex.handle_timeout(story.now.after(wait - Duration::from_millis(1)));
        story.expect([]);
        story.now = story.now.after(wait);
        story.pex.handle_timeout(story.now);
        story.expect([Action::CheckBook]);
    }
}
