//! What a node prints: one JSON object a line with `--json`, else lines for people.

use std::fmt;

use serde::Serialize;

use super::super::exit::Failure;
use super::super::output;

/// A line of output.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    /// The first one.
    Listening {
        enode: String,
        enr: String,
        /// `id@ip:port`, if the node speaks Tendermint's wire.
        #[serde(skip_serializing_if = "Option::is_none")]
        mconn: Option<String>,
        /// `enode://key@ip:port`, if it speaks Ethereum's.
        #[serde(skip_serializing_if = "Option::is_none")]
        rlpx: Option<String>,
    },
    PeerUp {
        wire: Wire,
        peer: String,
        address: String,
        direction: &'static str,
        moniker: String,
        /// Peers now.
        peers: usize,
    },
    PeerDown {
        wire: Wire,
        peer: String,
        reason: String,
        peers: usize,
    },
    Gossip {
        /// The peer that passed it on.
        from: String,
        message: String,
    },
    /// An Ethereum peer's answer to what was said.
    Echo {
        from: String,
        message: String,
    },
}

/// Which of the two.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wire {
    Mconn,
    Rlpx,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Listening { enode, enr, mconn, .. } => {
                write!(f, "{enode}\n{enr}")?;
                mconn.iter().try_for_each(|mconn| write!(f, "\n{mconn}"))
            }
            Event::PeerUp { peer, address, direction, moniker, peers, .. } => {
                write!(f, "+ {peer} at {address} ({direction}, {moniker:?}); peers: {peers}")
            }
            Event::PeerDown { peer, reason, peers, .. } => write!(f, "- {peer}: {reason}; peers: {peers}"),
            Event::Gossip { from, message } => write!(f, "{from:.10}: {message}"),
            Event::Echo { from, message } => write!(f, "{from:.10} answers: {message}"),
        }
    }
}

impl Event {
    pub(super) fn print(&self, json: bool) -> Result<(), Failure> {
        if json {
            let json = serde_json::to_string(self).map_err(|error| Failure::of("cannot print", error))?;
            Ok(output::line(json)?)
        } else {
            Ok(output::line(self)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_find_the_event_first() {
        let event = Event::Gossip { from: "ab".repeat(20), message: "a \"b\"\n".to_owned() };
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(json, format!(r#"{{"event":"gossip","from":"{}","message":"a \"b\"\n"}}"#, "ab".repeat(20)));
        let listening = Event::Listening { enode: "e".into(), enr: "r".into(), mconn: Some("m".into()), rlpx: None };
        let json = serde_json::to_string(&listening).unwrap();
        assert_eq!(json, r#"{"event":"listening","enode":"e","enr":"r","mconn":"m"}"#);
        assert_eq!(listening.to_string(), "e\nr\nm");
        let listening = Event::Listening { enode: "e".into(), enr: "r".into(), mconn: None, rlpx: Some("x".into()) };
        let json = serde_json::to_string(&listening).unwrap();
        assert_eq!(json, r#"{"event":"listening","enode":"e","enr":"r","rlpx":"x"}"#);
        assert_eq!(listening.to_string(), "e\nr");
    }
}
