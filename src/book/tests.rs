//! The book's rules, one a test.

use std::{collections::HashSet, net::Ipv4Addr, time::UNIX_EPOCH};

use proptest::prelude::*;

use super::{
    buckets::{BUCKET_SIZE, NEW_BUCKETS, NEW_PER_GROUP, OLD_BUCKETS, OLD_PER_GROUP},
    *,
};
use crate::dial::tests::{address, id, peer_at};

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn book() -> Book {
    Book::new(BookConfig { seed: 7, ..BookConfig::default() })
}

fn lax() -> Book {
    Book::new(BookConfig { strict: false, seed: 7, ..BookConfig::default() })
}

/// A source in a /16 of its own.
fn origin(n: u32) -> Origin {
    let ip = Ipv4Addr::from(0x5000_0001 + (n << 16));
    Origin { id: id(900_000 + n), socket: Some((ip, 1).into()) }
}

/// 10,000 addresses told from many networks, of which a few find no place.
fn full() -> Book {
    let mut book = book();
    for n in 0..10_000 {
        book.add(now(), &address(n), &origin(n % 97)).unwrap();
    }
    book.check();
    book
}

#[test]
fn what_cannot_or_should_not_be_known_is_refused_with_its_reason() {
    let private = BookConfig { private: [id(5), origin(5).id].into(), ..BookConfig::default() };
    let mut strict = Book::new(private.clone());
    let mut lax = Book::new(BookConfig { strict: false, ..private });
    for book in [&mut strict, &mut lax] {
        book.add_own(id(1), [address(2).socket_addr().unwrap()]);
        book.mark_bad(now(), &id(6), DAY);
    }
    let here = |n| peer_at(n, &address(2).socket_addr().unwrap().to_string());
    let named = format!("{}@a.example.org:1", id(9)).parse().unwrap();
    let memory = PeerAddress::memory(id(9).tendermint().unwrap());
    use NotAdded::*;
    // (address, source, strict, not strict)
    for (address, from, in_strict, in_lax) in [
        (address(9), origin(1), Ok(Added::New), Ok(Added::New)),
        (address(1), origin(1), Err(Own), Err(Own)),
        (here(9), origin(1), Err(Own), Err(Own)),
        (address(5), origin(1), Err(Private), Err(Private)),
        (address(7), origin(5), Err(PrivateSource), Err(PrivateSource)),
        (address(6), origin(1), Err(Banned), Err(Banned)),
        (peer_at(10, "10.0.0.1:1"), origin(1), Err(NotRoutable), Ok(Added::New)),
        (peer_at(11, "127.0.0.1:1"), origin(1), Err(NotRoutable), Ok(Added::New)),
        (peer_at(12, "0.0.0.1:1"), origin(1), Err(Special), Err(Special)),
        (peer_at(13, "240.0.0.1:1"), origin(1), Err(Special), Err(Special)),
        (named, origin(1), Err(Name), Err(Name)),
        (memory, origin(1), Err(NotRoutable), Ok(Added::Known)),
    ] {
        assert_eq!(strict.add(now(), &address, &from), in_strict, "{address} in a strict book");
        assert_eq!(lax.add(now(), &address, &from), in_lax, "{address} in a lax book");
    }
}

#[test]
fn own_addresses_learned_late_are_forgotten() {
    let mut book = book();
    book.add(now(), &address(1), &origin(1)).unwrap();
    book.add(now(), &address(2), &origin(1)).unwrap();
    book.add_own(id(1), [address(2).socket_addr().unwrap()]);
    assert!(book.is_empty());
}

#[test]
fn a_place_follows_from_the_key_and_nothing_else_that_a_stranger_does_not_know() {
    let places = |key: &str| -> Vec<(u16, u16)> {
        let placement = Placement::new(key, true);
        (0..500).map(|n| (placement.new_bucket(&address(n), &origin(n)), placement.old_bucket(&address(n)))).collect()
    };
    let (one, other) = (places("0123456789abcdef01234567"), places("1123456789abcdef01234567"));
    assert_eq!(one, places("0123456789abcdef01234567"), "so that places outlive the process");
    let same = one.iter().zip(&other).filter(|(one, other)| one == other).count();
    assert!(same < 10, "{same} of 500 places are the same under another key");
    assert!(one.iter().all(|(new, old)| *new < NEW_BUCKETS && *old < OLD_BUCKETS));
}

#[test]
fn one_source_group_reaches_32_of_256_new_buckets() {
    let mut book = book();
    for n in 0..20_000 {
        let from = Origin { id: id(n), ..origin(3) };
        book.add(now(), &address(n * 3), &from).unwrap();
    }
    let used = book.buckets.of_kind(Kind::New).iter().filter(|held| !held.is_empty()).count();
    assert!(used <= 32 && book.len() <= 32 * BUCKET_SIZE, "{used} buckets, {} addresses", book.len());
    // Everybody else still finds room.
    for n in 100_000..101_000 {
        book.add(now(), &address(n), &origin(n % 50)).unwrap();
    }
    assert!((100_000..101_000).filter(|n| book.address_of(&id(*n)).is_some()).count() > 850);
}

#[test]
fn one_group_of_addresses_reaches_4_of_64_old_buckets() {
    let mut book = book();
    for n in 0..2_000_u32 {
        let at = PeerAddress::from_socket(id(n), (Ipv4Addr::from(0x3333_0001 + n), 1).into()).unwrap();
        book.mark_reached(now(), &at);
    }
    assert!(book.old_len() <= 4 * BUCKET_SIZE, "{}", book.old_len());
    book.check();
}

/// One host, 10,000 identities, each listening at a port of its own and reached there.
#[test]
fn one_host_with_ten_thousand_live_identities_keeps_to_its_buckets_and_to_a_tenth_of_an_answer() {
    for honest in [10, 90, 500] {
        let mut book = book();
        // One in 40 honest nodes is the host's neighbour.
        let node =
            |n: u32| if n.is_multiple_of(40) { peer_at(n, &format!("99.9.8.{}:1", n / 40)) } else { address(n * 211) };
        let honest: Vec<_> = (0..honest).map(node).collect();
        for address in &honest {
            book.mark_reached(now(), address);
        }
        for n in 0..2_000 {
            book.add(now(), &address(200_000 + n * 17), &origin(n % 100)).unwrap();
        }
        let told = book.len() - honest.len();
        for n in 0..10_000 {
            book.mark_reached(now() + DAY, &peer_at(1_000_000 + n, &format!("99.9.9.9:{}", 1 + n)));
        }
        book.check();
        let is_theirs = |address: &PeerAddress| address.id() >= id(1_000_000);
        let kept = book.addresses().filter(|address| is_theirs(address)).count();
        let most = (OLD_PER_GROUP + NEW_PER_GROUP) as usize * BUCKET_SIZE;
        assert!(kept <= most, "{kept} of {most}");
        assert!(honest.iter().all(|address| book.address_of(&address.id()) == Some(address)), "all who were reached");
        let left = book.len() - honest.len() - kept;
        assert!(left * 100 >= told * 80, "{left} of {told} others");
        let select: [fn(&mut Book) -> Vec<PeerAddress>; 2] = [Book::selection, |book| book.selection_with_bias(30)];
        for answer in select.map(|select| select(&mut book)) {
            let theirs = answer.iter().filter(|address| is_theirs(address)).count();
            assert!(theirs * 10 <= answer.len() && answer.len() > honest.len() / 3, "{theirs} of {}", answer.len());
        }
    }
}

#[test]
fn an_address_told_by_many_is_in_at_most_four_buckets() {
    let mut book = book();
    for n in 0..1_000 {
        book.add(now(), &address(1), &origin(n % 200)).unwrap();
    }
    let entry = book.buckets.get(&id(1)).unwrap();
    assert_eq!((entry.buckets.len(), book.len()), (4, 1));
    book.check();
}

/// CometBFT's 1/(2n): whoever tells of an address again and again gains little.
#[test]
fn an_address_told_twice_gets_a_second_bucket_half_of_the_time() {
    let mut book = book();
    for source in [1, 2] {
        (0..256).for_each(|n| _ = book.add(now(), &address(n * 256), &origin(source)));
    }
    let places = |n: u32| book.buckets.get(&id(n * 256)).map_or(0, |entry| entry.buckets.len());
    let twice = (0..256).filter(|n| places(*n) == 2).count();
    assert!((98..158).contains(&twice), "{twice} of 256");
}

#[test]
fn who_told_the_truth_before_is_believed_up_to_nine_times_as_much() {
    let mut book = book();
    for n in 0..40 {
        book.add(now(), &address(n), &origin(n % 2)).unwrap();
    }
    (0..8).for_each(|n| book.mark_good(now(), &id(2 * n)));
    let picks: Vec<_> = (0..2_000).map(|_| book.pick(100).unwrap().id()).collect();
    let of_liar = (0..20).map(|n| picks.iter().filter(|pick| **pick == id(2 * n + 1)).count()).sum::<usize>();
    assert!((150..250).contains(&of_liar), "{of_liar} of 2,000");
}

#[test]
fn a_file_whose_key_has_no_end_or_whose_ban_has_another_ones_address_is_read_without_them() {
    let key = format!(r#"{{"key": "{}", "addrs": []}}"#, "k".repeat(129));
    let (book, _) = Book::restore(BookConfig::default(), now(), Snapshot::parse(key.as_bytes()).unwrap().0);
    assert_eq!(book.snapshot().key.len(), 2 * KEY_BYTES);

    let mut book = self::book();
    book.mark_reached(now(), &address(1));
    book.mark_bad(now(), &id(1), DAY);
    let json = String::from_utf8(book.snapshot().to_json().unwrap()).unwrap();
    let json = json.replacen(&id(1).to_string(), &id(2).to_string(), 1);
    let (mut book, _) = Book::restore(BookConfig::default(), now(), Snapshot::parse(json.as_bytes()).unwrap().0);
    assert!(book.is_banned(now(), &id(2)) && !book.is_banned(now(), &id(1)));
    assert_eq!((book.reinstate(now() + 2 * DAY), book.len()), (0, 0));
}

#[test]
fn the_book_is_bounded() {
    let mut book = book();
    for n in 0..60_000 {
        book.add(now(), &address(n), &origin(n % 500)).unwrap();
    }
    for n in 60_000..90_000 {
        book.mark_reached(now(), &address(n));
    }
    let most = (usize::from(NEW_BUCKETS) + usize::from(OLD_BUCKETS)) * BUCKET_SIZE;
    assert!(book.len() <= most && book.old_len() <= 64 * BUCKET_SIZE, "{}", book.len());
    book.check();
}

#[test]
fn marking_good_and_demotion_lose_no_address() {
    let mut book = full();
    let before: HashSet<PeerId> = book.addresses().map(PeerAddress::id).collect();
    for id in &before {
        book.mark_good(now(), id);
    }
    let after: HashSet<PeerId> = book.addresses().map(PeerAddress::id).collect();
    assert_eq!(before.len(), after.len(), "{} of {} old", book.old_len(), book.len());
    assert!(book.old_len() < before.len(), "some were demoted");
    book.check();
}

#[test]
fn a_bad_address_makes_room_before_an_untried_one() {
    let mut book = book();
    let from_one = origin(1);
    // All in one group, from one source: one bucket.
    let at = |n: u32| peer_at(n, &format!("44.44.{}.{}:1", n / 200, n % 200 + 1));
    for n in 0..64 {
        book.add(now(), &at(n), &from_one).unwrap();
    }
    assert_eq!(book.len(), 64);
    (0..3).for_each(|_| book.mark_attempt(now() + DAY, &at(10)));
    let later = now() + DAY + Duration::from_secs(61);
    book.add(later, &at(100), &from_one).unwrap();
    assert_eq!((book.len(), book.address_of(&id(10))), (64, None));
    // Nobody is bad: the one untried for longest goes.
    (1..64).for_each(|n| book.mark_attempt(later, &at(n)));
    book.add(later, &at(101), &from_one).unwrap();
    assert_eq!((book.len(), book.address_of(&id(0))), (64, None));
}

#[test]
fn a_false_claim_gives_way_once_it_failed() {
    let mut book = book();
    let (false_one, true_one) = (peer_at(1, "51.1.1.1:1"), address(1));
    book.add(now(), &false_one, &origin(1)).unwrap();
    assert_eq!(book.add(now(), &true_one, &origin(2)), Ok(Added::Known));
    book.mark_attempt(now(), &false_one);
    assert_eq!(book.add(now(), &true_one, &origin(2)), Ok(Added::New));
    // Where we reached it ourselves counts at once, whatever is claimed.
    book.mark_reached(now(), &false_one);
    assert_eq!((book.address_of(&id(1)), book.is_good(&id(1)), book.len()), (Some(&false_one), true, 1));
}

/// Our uplink is down for some minutes, and afterwards the first to speak is a liar.
#[test]
fn proven_addresses_are_not_lost_to_hearsay_after_some_failures() {
    let mut book = book();
    let elsewhere = |n: u32| peer_at(n, &format!("51.1.1.{}:1", n + 1));
    for n in 0..100 {
        book.mark_reached(now(), &address(n));
        (0..9).for_each(|_| book.mark_attempt(now(), &address(n)));
    }
    for n in 0..100 {
        assert_eq!(book.add(now() + DAY, &elsewhere(n), &origin(1)), Ok(Added::Known));
    }
    assert!((0..100).all(|n| book.address_of(&id(n)) == Some(&address(n)) && book.is_good(&id(n))));
    // Who has moved for good is believed to have: after ten failures and seven days.
    for (days, failures, added) in [(6, 1, Added::Known), (8, 0, Added::New)] {
        (0..failures).for_each(|_| book.mark_attempt(now() + days * DAY, &address(7)));
        assert_eq!(book.add(now() + days * DAY, &elsewhere(7), &origin(1)), Ok(added), "after {days} days");
    }
    assert_eq!(book.add(now() + 8 * DAY, &elsewhere(8), &origin(1)), Ok(Added::Known), "nine failures");
    book.check();
}

#[test]
fn a_ban_holds_for_its_time_and_then_the_address_is_new_again() {
    let mut book = book();
    book.mark_reached(now(), &address(1));
    book.mark_bad(now(), &id(1), DAY);
    book.mark_bad(now(), &id(1), DAY / 2);
    book.mark_bad(now(), &id(2), DAY);
    assert!(book.is_empty() && book.is_banned(now() + DAY / 2, &id(1)), "the longer ban counts");
    assert_eq!(book.add(now(), &address(1), &origin(1)), Err(NotAdded::Banned));
    assert_eq!(book.reinstate(now() + DAY / 2), 0);
    assert_eq!(book.reinstate(now() + DAY), 1);
    assert_eq!((book.address_of(&id(1)), book.is_good(&id(1)), book.banned()), (Some(&address(1)), false, 0));
    book.check();
}

#[test]
fn a_ban_for_ever_does_not_end_at_once_nor_with_the_process() {
    let mut book = book();
    book.mark_bad(now(), &id(1), Duration::MAX);
    assert!(book.is_banned(now() + 1_000 * DAY, &id(1)));
    let (saved, unreadable) = Snapshot::parse(&book.snapshot().to_json().unwrap()).unwrap();
    let (book, _) = Book::restore(BookConfig::default(), now(), saved);
    assert!(unreadable == 0 && book.is_banned(now() + 1_000 * DAY, &id(1)));
}

#[test]
fn bans_are_bounded_and_the_shortest_ends_first() {
    let mut book = book();
    for n in 0..5_000 {
        book.mark_bad(now(), &id(n), DAY + Duration::from_secs(u64::from(n)));
    }
    assert_eq!(book.banned(), bans::MAX_BANS);
    assert!(!book.is_banned(now(), &id(0)) && book.is_banned(now(), &id(4_999)));
}

#[test]
fn the_bias_weighs_told_against_reached() {
    let mut book = book();
    for n in 0..100 {
        book.add(now(), &address(n), &origin(n)).unwrap();
        book.mark_reached(now(), &address(1_000 + n));
    }
    // Of equal numbers, `bias` percent are new.
    for (bias, from, to) in
        [(0, 0, 0), (10, 50, 150), (50, 430, 570), (90, 850, 950), (100, 1_000, 1_000), (999, 1_000, 1_000)]
    {
        let new = (0..1_000).filter(|_| book.pick(bias).unwrap().id() < id(1_000)).count();
        assert!((from..=to).contains(&new), "bias {bias}: {new} of 1000 new");
    }
    let mut empty = self::book();
    assert_eq!(empty.pick(50), None);
    empty.mark_reached(now(), &address(1));
    assert_eq!(empty.pick(100), Some(&address(1)), "the other side, if one is empty");
}

#[test]
fn a_selection_has_23_percent_from_32_to_250() {
    let mut book = lax();
    let mut known = 0;
    for (size, expected) in
        [(0, 0), (1, 1), (31, 31), (32, 32), (100, 32), (200, 46), (1_000, 230), (1_087, 250), (3_000, 250)]
    {
        while book.len() < size {
            book.add(now(), &address(known), &origin(known % 200)).unwrap();
            known += 1;
        }
        for selection in [book.selection(), book.selection_with_bias(30)] {
            let distinct: HashSet<&PeerAddress> = selection.iter().collect();
            assert_eq!((selection.len(), distinct.len()), (expected, expected), "of {size}");
        }
    }
}

#[test]
fn a_seeds_selection_is_mostly_of_those_it_reached() {
    let mut book = book();
    for n in 0..500 {
        book.add(now(), &address(n), &origin(n)).unwrap();
    }
    let count_new = |book: &mut Book| book.selection_with_bias(30).iter().filter(|a| a.id() < id(1_000)).count();
    assert_eq!(count_new(&mut book), 115, "nobody was reached: all are new");
    for n in 0..500 {
        book.mark_reached(now(), &address(1_000 + n));
    }
    let old = book.old_len();
    assert!(old > 400, "{old}");
    // 30 % of 230; a few of those we reached were demoted and count as new too.
    let new = count_new(&mut book);
    assert!((60..=69).contains(&new), "{new}");
}

#[test]
fn what_only_a_peer_itself_says_is_not_passed_on_before_we_reached_it() {
    let mut book = book();
    for n in 0..50 {
        let itself = Origin { id: id(n), socket: address(n).socket_addr() };
        book.add(now(), &address(n), &itself).unwrap();
    }
    assert!(book.selection().is_empty() && book.selection_with_bias(30).is_empty());
    assert!(book.pick(50).is_some(), "but it may be dialed");
    book.mark_good(now(), &id(3));
    assert_eq!(book.selection(), [address(3)]);
}

#[test]
fn who_told_much_drives_out_its_own_addresses_and_none_that_was_reached() {
    let mut book = book();
    // Reached, then demoted or not: kept whatever is told.
    for n in 0..300 {
        book.mark_reached(now(), &address(n));
    }
    let honest: Vec<u32> = (1_000..2_000).collect();
    for n in &honest {
        book.add(now(), &address(*n), &origin(n % 200)).unwrap();
    }
    for n in 0..20_000 {
        book.add(now() + DAY, &address(100_000 + n), &origin(9_999)).unwrap();
    }
    assert_eq!((0..300).filter(|n| book.address_of(&id(*n)).is_some()).count(), 300);
    let left = honest.iter().filter(|n| book.address_of(&id(**n)).is_some()).count();
    assert!(left > 980, "{left} of 1000");
    book.check();
}

#[test]
fn nobody_makes_the_book_content_with_its_word_alone() {
    let mut book = book();
    for n in 0..5_000 {
        book.add(now(), &address(n * 13), &origin(1)).unwrap();
    }
    assert!(book.len() > 1_000 && book.need_more(), "{}", book.len());
    for n in 0..800 {
        book.add(now(), &address(100_000 + n), &origin(2 + n % 100)).unwrap();
    }
    assert!(!book.need_more());
}

#[test]
fn what_failed_is_not_passed_on() {
    let mut book = book();
    book.mark_reached(now(), &address(1));
    book.add(now(), &address(2), &origin(1)).unwrap();
    assert_eq!(book.selection().len(), 2);
    // Hearsay fails once, what was reached may fail twice in a row.
    for left in [1, 1, 0] {
        book.mark_attempt(now(), &address(1));
        book.mark_attempt(now(), &address(2));
        assert_eq!(book.selection().len(), left);
    }
    book.mark_good(now(), &id(1));
    assert_eq!(book.selection(), [address(1)]);
}

#[test]
fn many_ports_of_one_host_are_a_tenth_of_an_answer_if_others_are_known() {
    let mut book = book();
    for n in 0..300 {
        book.mark_reached(now(), &address(n * 211));
        book.mark_reached(now(), &peer_at(100_000 + n, &format!("99.9.9.9:{}", 1 + n)));
    }
    for _ in 0..20 {
        let selection = book.selection_with_bias(30);
        let theirs = selection.iter().filter(|address| address.id() >= id(100_000)).count();
        assert!(theirs * 10 <= selection.len(), "{theirs} of {}", selection.len());
    }
    // Alone, they are all there is.
    let mut alone = self::book();
    for n in 0..40 {
        alone.mark_reached(now(), &peer_at(n, &format!("99.9.9.9:{}", 1 + n)));
    }
    assert_eq!((alone.len(), alone.selection().len()), (40, 32));
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let mut book = full();
    book.mark_bad(now(), &id(5), DAY);
    let (snapshot, before) = (book.snapshot(), book.snapshot().to_json().unwrap());
    for n in 0..10_000 {
        book.mark_good(now(), &id(n));
    }
    book.mark_bad(now(), &id(6), DAY);
    assert!(snapshot.to_json().unwrap() == before && book.snapshot().to_json().unwrap() != before);
}

/// One thing that happens to the book.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Add(u32, u32),
    Elsewhere(u32),
    Attempt(u32),
    Good(u32),
    Reached(u32),
    Bad(u32),
    Remove(u32),
    Reinstate,
    Later(u32),
    Saved,
}

fn happens() -> impl Strategy<Value = Happens> {
    use Happens::*;
    let peer = 0..300_u32;
    prop_oneof![
        8 => (peer.clone(), 0..5_u32).prop_map(|(n, from)| Add(n, from)),
        1 => peer.clone().prop_map(Elsewhere),
        2 => peer.clone().prop_map(Attempt),
        2 => peer.clone().prop_map(Good),
        2 => peer.clone().prop_map(Reached),
        1 => peer.clone().prop_map(Bad),
        1 => peer.prop_map(Remove),
        1 => Just(Reinstate),
        1 => (0..200_000_u32).prop_map(Later),
        1 => Just(Saved),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_index_and_bound_holds_in_any_order(seed: u64, story in prop::collection::vec(happens(), 1..400)) {
        let config = BookConfig { seed, ..BookConfig::default() };
        let (mut book, mut now) = (Book::new(config.clone()), now());
        // Few groups and sources, so that buckets fill up.
        let at = |n: u32| peer_at(n, &format!("44.{}.{}.1:1", n % 2, n / 2));
        for what in story {
            match what {
                Happens::Add(n, from) => drop(book.add(now, &at(n), &origin(from))),
                Happens::Elsewhere(n) => drop(book.add(now, &address(n), &origin(6))),
                Happens::Attempt(n) => book.mark_attempt(now, &at(n)),
                Happens::Good(n) => book.mark_good(now, &id(n)),
                Happens::Reached(n) => book.mark_reached(now, &at(n)),
                Happens::Bad(n) => book.mark_bad(now, &id(n), DAY),
                Happens::Remove(n) => book.remove(&at(n)),
                Happens::Reinstate => drop(book.reinstate(now)),
                Happens::Later(seconds) => now += Duration::from_secs(u64::from(seconds)),
                Happens::Saved => {
                    let before: HashSet<PeerAddress> = book.addresses().cloned().collect();
                    let (snapshot, unreadable) = Snapshot::parse(&book.snapshot().to_json().unwrap()).unwrap();
                    let left_out;
                    (book, left_out) = Book::restore(config.clone(), now, snapshot);
                    prop_assert_eq!((unreadable, left_out), (0, 0));
                    prop_assert_eq!(before, book.addresses().cloned().collect::<HashSet<_>>());
                }
            }
            book.check();
            let selection = book.selection();
            prop_assert!(selection.len() <= selection::MAX_SELECTION);
            prop_assert!(selection.iter().all(|address| !book.is_banned(now, &address.id())));
            prop_assert_eq!(book.pick(50).is_none(), book.is_empty());
        }
    }
}
