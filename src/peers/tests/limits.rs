//! What a library's user may configure without a second thought: "no limit", "for ever".

use std::time::Duration;

use kadwire_discovery::Now;

use super::OWN;
use crate::{
    book::{Book, BookConfig},
    dial::{
        WhyFailed,
        tests::{address, id},
    },
    peers::{Action, Config, ConnectionId, PeerManager, Slots},
};

#[test]
fn limits_beyond_all_clocks_and_numbers_are_no_limits() {
    let slots = Slots { inbound: usize::MAX, outbound: 1, total: usize::MAX, ..Slots::default() };
    let mut manager = PeerManager::new(
        Config {
            slots,
            persistent: vec![address(1)],
            persistent_backoff: Duration::MAX,
            fallback: Some(Duration::MAX),
            throttle: Some(Duration::MAX),
            ..Config::new(id(OWN))
        },
        Book::new(BookConfig::default()),
    );
    let now = Now::read();
    manager.handle_timeout(now);
    assert_eq!(manager.poll_action(), Some(Action::Dial(address(1))));
    manager.handle_dial_failed(now, &address(1), WhyFailed::WrongIdentity);
    let remote = address(2).socket_addr().unwrap();
    manager.handle_incoming(now, ConnectionId(1), Some(remote.ip())).unwrap();
    manager.handle_accepted(now, ConnectionId(1), id(2), Some(remote)).unwrap();
    manager.ban(now, &id(2), Duration::MAX);
    assert!(manager.poll_timeout().is_none_or(|at| at >= now.monotonic) && manager.book().is_banned(now.wall, &id(2)));
}
