//! `config.toml` and home folders, as CometBFT writes them and as operators change them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use kadwire_wire::{
    address::PeerAddress,
    tendermint::{key::NodeKey, mconnection::QueueKind},
};
use rand::{SeedableRng, rngs::StdRng};

use super::{ConfigError, NodeConfig, file::ConfigFile, home, parse_list};

fn config() -> NodeConfig {
    NodeConfig::new(NodeKey::from_seed(&[7; 32]), "test-net")
}

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/config").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a file says, with its warnings. Its name is `c.toml`, the home folder is `/home`.
fn read(text: &str) -> Result<(NodeConfig, Vec<String>), ConfigError> {
    let mut config = config();
    let file = ConfigFile::parse(Path::new("c.toml"), text)?;
    let warnings = file.apply(&mut config, Path::new("/home"))?;
    config.validate().map_err(|error| file.locate(error))?;
    Ok((config, warnings))
}

fn p2p(line: &str) -> Result<(NodeConfig, Vec<String>), ConfigError> {
    read(&format!("[p2p]\n{line}\n"))
}

/// The number, from 1, and the key of each line that sets one in `[p2p]`.
fn keys(text: &str) -> Vec<(usize, String)> {
    let lines = text.lines().enumerate().skip_while(|(_, line)| *line != "[p2p]").skip(1);
    let section = lines.take_while(|(_, line)| !line.starts_with('['));
    let set = section
        .filter(|(_, line)| !line.starts_with('#'))
        .filter_map(|(at, line)| line.split_once(" = ").map(|(key, _)| (at + 1, key.to_owned())));
    set.collect()
}

const FIXTURES: [(&str, usize); 3] =
    [("cometbft_v0.38.26.toml", 20), ("cometbft_v1.0.1.toml", 20), ("tendermint_article.toml", 24)];

#[test]
fn files_of_cometbft_and_tendermint_say_what_our_defaults_say() {
    for (name, _) in FIXTURES {
        let (read, warnings) = read(&fixture(name)).unwrap();
        assert_eq!(warnings, Vec::<String>::new(), "{name}");
        let mut expected = config();
        expected.addr_book_file = Some(PathBuf::from("/home/config/addrbook.json"));
        match name {
            "tendermint_article.toml" => {
                expected.max_packet_msg_payload_size = 1400;
                expected.max_connections = Some(64);
            }
            "cometbft_v1.0.1.toml" => expected.flush_throttle_timeout = Duration::from_millis(10),
            _ => {}
        }
        expected.moniker = if name.starts_with("cometbft") { "fixture" } else { "article" }.to_owned();
        assert_eq!(format!("{read:?}"), format!("{expected:?}"), "{name}");
    }
}

#[test]
fn every_key_of_them_is_read_and_named_with_its_line_when_it_is_wrong() {
    for (name, count) in FIXTURES {
        let text = fixture(name);
        let keys = keys(&text);
        assert_eq!(keys.len(), count, "{name}: {keys:?}");
        for (line, key) in keys {
            let changed: Vec<_> = text
                .lines()
                .enumerate()
                .map(|(at, old)| if at + 1 == line { format!("{key} = {{}}") } else { old.to_owned() })
                .collect();
            let error = read(&changed.join("\n")).unwrap_err();
            assert_eq!(error.key, key.replace('-', "_"), "{name}: {error}");
            assert!(error.to_string().starts_with(&format!("c.toml:{line}: ")), "{name}: {error}");
        }
    }
}

#[test]
fn each_key_sets_its_field() {
    let (id, other) = ("ab".repeat(20), "CD".repeat(20));
    let peers = format!(" {id}@1.2.3.4:5, ,tcp://{other}@seed.example.org:6 ,");
    let text = format!(
        r#"
        moniker = "mine"
        [p2p]
        Disable-Legacy = true
        queue_type = "wdrr"
        laddr = "tcp://127.0.0.1:1"
        external_address = "tcp://203.0.113.7:2"
        seeds = "{peers}"
        persistent_peers = "{peers}"
        upnp = true
        addr_book_file = "/elsewhere/book.json"
        addr_book_strict = false
        max_num_inbound_peers = 3
        max_num_outbound_peers = 4
        max_connections = 1_005
        max_incoming_connection_attempts = 6
        unconditional_peer_ids = "{id},{other}"
        persistent_peers_max_dial_period = "1m30s"
        flush_throttle_timeout = "7ms"
        max_packet_msg_payload_size = 0x400
        send_rate = 8
        recv_rate = 0
        pex = false
        seed_mode = true
        private_peer_ids = "{other}"
        allow_duplicate_ip = true
        handshake_timeout = "9s"
        dial_timeout = "1.5s"

        [rpc]
        laddr = "tcp://0.0.0.0:26657"
        seeds = 3
        "#
    );
    let (read, warnings) = read(&text).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    let peers: Vec<_> = parse_list("seeds", &peers).unwrap();
    assert_eq!(peers.len(), 2);
    let expected = NodeConfig {
        moniker: "mine".to_owned(),
        disable_legacy: true,
        queue_type: QueueKind::Wdrr,
        laddr: "127.0.0.1:1".parse().unwrap(),
        external_address: Some("203.0.113.7:2".parse().unwrap()),
        seeds: peers.clone(),
        persistent_peers: peers,
        upnp: true,
        addr_book_file: Some("/elsewhere/book.json".into()),
        addr_book_strict: false,
        max_num_inbound_peers: 3,
        max_num_outbound_peers: 4,
        max_connections: Some(1_005),
        max_incoming_connection_attempts: 6,
        unconditional_peer_ids: vec![id.parse().unwrap(), other.parse().unwrap()],
        persistent_peers_max_dial_period: Duration::from_secs(90),
        flush_throttle_timeout: Duration::from_millis(7),
        max_packet_msg_payload_size: 1_024,
        send_rate: 8,
        recv_rate: 0,
        pex: false,
        seed_mode: true,
        private_peer_ids: vec![other.parse().unwrap()],
        allow_duplicate_ip: true,
        handshake_timeout: Duration::from_secs(9),
        dial_timeout: Duration::from_millis(1_500),
        ..config()
    };
    assert_eq!(format!("{read:?}"), format!("{expected:?}"));
}

#[test]
fn a_file_may_say_little_or_nothing() {
    for text in ["", "[p2p]", "moniker = \"kadwire\"", "[rpc]\nladdr = \"tcp://1.2.3.4:5\""] {
        let (read, warnings) = read(text).unwrap();
        assert_eq!((format!("{read:?}"), warnings), (format!("{:?}", config()), vec![]), "{text}");
    }
    assert_eq!(p2p("external_address = \"localhost:5\"").unwrap().0.external_address.unwrap().port(), 5);
    assert!(read("mode = \"seed\"").unwrap().0.seed_mode, "Tendermint 0.35");
    assert_eq!(read("p2p.send_rate = 1").unwrap().0.send_rate, 1);
}

#[test]
fn unknown_keys_are_named_and_harmless() {
    let text = "[p2p]\nbootstrap-peers = \"\"\npersistent_peer = 3\nmax_conections = 5\n[p2p.libp2p]\nenabled = true\n";
    let (read, warnings) = read(text).unwrap();
    assert_eq!(read.max_connections, None);
    assert_eq!(
        warnings,
        [
            "c.toml:2: bootstrap-peers in [p2p] is unknown and has no effect",
            "c.toml:3: persistent_peer in [p2p] is unknown and has no effect: did you mean persistent_peers?",
            "c.toml:4: max_conections in [p2p] is unknown and has no effect: did you mean max_connections?",
            "c.toml:5: libp2p in [p2p] is unknown and has no effect",
        ]
    );
}

#[test]
fn each_bad_value_is_named_with_its_line_and_what_to_write() {
    let ethereum = format!("unconditional_peer_ids = \"{}\"", "ab".repeat(64));
    for (line, key, advice) in [
        ("laddr = \"nowhere\"", "laddr", "IP:PORT"),
        ("laddr = 26656", "laddr", "in quotes"),
        ("external_address = \"203.0.113.7\"", "external_address", "203.0.113.7:26656"),
        ("external_address = \"203.0.113.7:99999\"", "external_address", "203.0.113.7:26656"),
        ("external_address = \"0.0.0.0:5\"", "external_address", "0.0.0.0"),
        ("seeds = \"somebody@\"", "seeds", "somebody@"),
        ("seeds = [\"a\"]", "seeds", "commas"),
        ("persistent_peers = \"1.2.3.4:26656\"", "persistent_peers", "<id>@<host>:<port>"),
        ("unconditional-peer-ids = \"12\"", "unconditional_peer_ids", "40 hex"),
        (&ethereum, "unconditional_peer_ids", "40 hex"),
        ("max_num_inbound_peers = -1", "max_num_inbound_peers", "less than 0"),
        ("max_num_outbound_peers = \"10\"", "max_num_outbound_peers", "without quotes"),
        ("max_incoming_connection_attempts = 99999999999", "max_incoming_connection_attempts", "too large"),
        ("max_packet_msg_payload_size = 0", "max_packet_msg_payload_size", "must be 2 to"),
        ("send_rate = 1.5", "send_rate", "whole number"),
        ("pex = \"true\"", "pex", "without quotes"),
        ("handshake_timeout = \"20\"", "handshake_timeout", "\"20s\""),
        ("handshake_timeout = 20", "handshake_timeout", "\"20s\""),
        ("dial_timeout = \"0s\"", "dial_timeout", "longer than 0"),
        ("flush_throttle_timeout = \"-1s\"", "flush_throttle_timeout", "less than nothing"),
        ("persistent-peers-max-dial-period = \"soon\"", "persistent_peers_max_dial_period", "1m30s"),
        ("queue-type = \"lifo\"", "queue_type", "priority, fifo, wdrr or simple-priority"),
        ("addr_book_file = \"\"", "addr_book_file", "name of a file"),
    ] {
        let error = p2p(line).err().unwrap_or_else(|| panic!("{line}"));
        assert_eq!(error.key, key, "{error}");
        let text = error.to_string();
        assert!(text.starts_with("c.toml:2: ") && text.contains(advice) && text.lines().count() == 1, "{line}: {text}");
    }
    let twice = p2p("send_rate = 1\nsend-rate = 2").unwrap_err().to_string();
    assert!(
        twice.starts_with("c.toml:3: ") && twice.contains("send-rate says what send_rate says in line 2"),
        "{twice}"
    );
    for (text, line) in [("[p2p\n", 1), ("\n\nladdr = ", 3), ("[p2p]\npex = true\npex = true", 3), ("p2p = 3", 1)] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(&format!("c.toml:{line}: ")) && error.lines().count() == 1, "{text:?}: {error}");
    }
}

#[test]
fn an_empty_home_is_made_as_cometbft_would_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("new");
    let load = |seed| home::load(&home, &mut StdRng::seed_from_u64(seed));
    let first = load(1).unwrap();
    assert_eq!((first.config.network.as_str(), first.warnings), ("", vec![]));
    assert_eq!(first.config.addr_book_file, Some(home.join("config/addrbook.json")));
    assert_eq!(load(2).unwrap().config.id(), first.config.id(), "the key is kept");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(home.join("config/node_key.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // A damaged key is never replaced.
    fs::write(home.join("config/node_key.json"), "{}").unwrap();
    let error = load(3).unwrap_err();
    assert!(error.key == "node_key_file" && error.problem.contains("node_key.json"), "{error}");
}

#[test]
fn a_home_says_where_its_files_are_and_which_chain_it_is_of() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    fs::create_dir_all(home.join("config")).unwrap();
    let toml = "moniker = \"m\"\nnode-key-file = \"keys/n.json\"\ngenesis_file = \"g.json\"\n\
                [p2p]\naddr-book-file = \"data/book.json\"\nmaxconnections = 3\n";
    fs::write(home.join("config/config.toml"), toml).unwrap();
    fs::write(
        home.join("g.json"),
        r#"{"genesis_time": "now", "app_state": {"a": [1, {}]}, "chain_id": "cosmoshub-4"}"#,
    )
    .unwrap();
    let load = || home::load(home, &mut StdRng::seed_from_u64(1));
    let loaded = load().unwrap();
    assert_eq!((loaded.config.network.as_str(), loaded.config.moniker.as_str()), ("cosmoshub-4", "m"));
    assert_eq!(loaded.config.addr_book_file, Some(home.join("data/book.json")));
    assert!(home.join("keys/n.json").exists() && home.join("data").exists());
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].contains("config/config.toml:6: maxconnections"), "{:?}", loaded.warnings);

    for (file, text, key, said) in [
        ("g.json", "{\"chain_id\": 3}", "genesis_file", "g.json"),
        ("config/config.toml", "genesis_file = \".\"", "genesis_file", "directory"),
        ("config/config.toml", "moniker = \"\"", "moniker", "config.toml:1: "),
        ("config/config.toml", "node_key_file = \"g.json/n\"", "node_key_file", "g.json"),
        ("config/config.toml", "[p2p]\ndial_timeout = \"0s\"", "dial_timeout", "config.toml:2: "),
        ("config/config.toml", "\u{0}", "config.toml", "config.toml:1: "),
    ] {
        fs::write(home.join(file), text).unwrap();
        let error = load().unwrap_err();
        assert!(error.key == key && error.to_string().contains(said), "{text}: {error}");
        fs::write(home.join("g.json"), "{\"chain_id\": \"x\"}").unwrap();
    }
    fs::write(home.join("config/config.toml"), vec![b' '; (1 << 20) + 1]).unwrap();
    assert!(load().unwrap_err().to_string().contains("longer than"));
}

#[test]
fn the_defaults_are_valid() {
    assert_eq!(config().validate(), Ok(()));
}

#[test]
fn each_bad_value_is_named() {
    let ethereum = format!("enode://{}@1.2.3.4:5", "ab".repeat(64));
    type Change = Box<dyn Fn(&mut NodeConfig)>;
    let private = format!("{}@10.0.0.1:5", "ab".repeat(20));
    let changes: [(&str, Change); 11] = [
        ("network", Box::new(|c| c.network.clear())),
        ("network", Box::new(|c| c.network = "x".repeat(51))),
        ("moniker", Box::new(|c| c.moniker = "caf\u{e9}".into())),
        ("external_address", Box::new(|c| c.external_address = Some("0.0.0.0:1".parse().unwrap()))),
        ("handshake_timeout", Box::new(|c| c.handshake_timeout = Duration::ZERO)),
        ("handshake_timeout", Box::new(|c| c.handshake_timeout = Duration::from_secs(55))),
        ("dial_timeout", Box::new(|c| c.dial_timeout = Duration::ZERO)),
        ("max_packet_msg_payload_size", Box::new(|c| c.max_packet_msg_payload_size = 0)),
        (
            "max_connections",
            Box::new(|c| {
                c.max_connections = Some(0);
                c.persistent_peers = vec![format!("{}@1.2.3.4:5", "ab".repeat(20)).parse().unwrap()];
            }),
        ),
        ("seeds", Box::new(move |c| c.seeds = vec![ethereum.parse().unwrap()])),
        (
            "seeds",
            Box::new(move |c| {
                c.public_only = true;
                c.seeds = vec![private.parse().unwrap()];
            }),
        ),
    ];
    for (key, change) in changes {
        let mut config = config();
        change(&mut config);
        assert_eq!(config.validate().unwrap_err().key, key);
    }
}

#[test]
fn a_list_names_its_bad_part() {
    let good = format!("{}@1.2.3.4:5", "ab".repeat(20));
    assert_eq!(parse_list::<PeerAddress>("seeds", &format!(" {good}, ,{good},")).unwrap().len(), 2);
    let error = parse_list::<PeerAddress>("seeds", &format!("{good},nobody@")).unwrap_err();
    assert_eq!(error.to_string(), "seeds: \"nobody@\": id is not 40 hex characters (Tendermint) or 128 (enode)");
}
