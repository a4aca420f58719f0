//! The files of a crawl: `nodes.ndjson`, `edges.ndjson`, `crawl.json`.
//!
//! NDJSON is one JSON object a line, which pandas, DuckDB, jq and every database load as it is. Fields, absent when unknown (`?`):
//!
//! | file | field | what |
//! |---|---|---|
//! | nodes (eth) | `id` | 64 hex digits, keccak256 of the key |
//! | | `enode`, `enr`? | text forms |
//! | | `ip`, `udp`, `tcp` | endpoint |
//! | | `seq` | sequence number of the record, 0 without one |
//! | | `tm`? | `{id, port}`: the Tendermint side it announces |
//! | | `reachable`, `error`? | whether it answered; why a question to it was given up |
//! | | `first_seen` | RFC 3339, UTC, milliseconds |
//! | nodes (tendermint) | `id` | 40 hex digits, from the ed25519 key |
//! | | `address` | `id@host:port` as others tell it |
//! | | `moniker`?, `version`?, `network`?, `channels`?, `listen_addr`? | its NodeInfo; channels in hex |
//! | | `reachable`, `error`?, `first_seen` | as above |
//! | edges | `from`, `to` | node ids: `from` told us of `to` |
//! | | `kind` | `table` (a discv4 table entry) or `pex` (a sample of an address book, not a link) |
//! | | `distance`? | log-distance of a table entry, 1–256 |
//! | crawl.json | [`Summary`] | |
//!
//! Each file appears whole or not at all (written beside, then renamed), `crawl.json` last.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::Progress;
use super::topology::{Topology, Vertex};

/// A node that can be written.
pub trait Describe: Vertex {
    /// The value of `network` in `crawl.json`.
    const NETWORK: &'static str;

    /// A line of `nodes.ndjson`.
    fn row(&self) -> impl Serialize;

    /// A line of `edges.ndjson`: this node told us of `to`.
    fn edge(&self, to: &Self) -> Edge;

    /// Whether it answered.
    fn is_reachable(&self) -> bool;

    /// Why a question to it was given up.
    fn error(&self) -> Option<&str>;
}

/// A line of `edges.ndjson`.
#[derive(Debug, Serialize)]
pub struct Edge {
    /// Who told us.
    pub from: String,
    /// Of whom.
    pub to: String,
    /// `table` or `pex`.
    pub kind: &'static str,
    /// Log-distance between the two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distance: Option<u16>,
}

/// `crawl.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// `eth` or `tendermint`.
    pub network: &'static str,
    /// That of this package, whose minor version changes when a field of these files changes its name or meaning.
    pub version: &'static str,
    /// Nodes learned of.
    pub found: usize,
    /// Those that answered.
    pub reachable: usize,
    /// Lines of `edges.ndjson`.
    pub edges: usize,
    /// Wall-clock duration.
    pub seconds: f64,
    /// Number of nodes that left a question unanswered, by cause.
    pub errors: BTreeMap<String, u64>,
    /// Questions put (asked again counts again).
    pub asked: u64,
    /// Answers received.
    pub answered: u64,
    /// Whether the crawl came to its end, and nothing was turned away at a limit.
    pub complete: bool,
    /// Nodes beyond the limit of the crawl.
    pub nodes_turned_away: u64,
    /// Edges beyond the limits of the crawl.
    pub edges_turned_away: u64,
    /// When it began, RFC 3339.
    pub started: String,
}

impl Summary {
    /// Sums up a crawl that began at `started`, took `took` and came to its end, or was stopped.
    pub fn new<V: Describe>(
        topology: &Topology<V>,
        progress: Progress,
        started: SystemTime,
        took: Duration,
        ended: bool,
    ) -> Self {
        let mut errors = BTreeMap::new();
        for cause in topology.nodes().iter().filter_map(Describe::error) {
            *errors.entry(cause.to_owned()).or_insert(0) += 1;
        }
        let turned_away = topology.turned_away();
        Summary {
            network: V::NETWORK,
            version: env!("CARGO_PKG_VERSION"),
            found: topology.nodes().len(),
            reachable: topology.nodes().iter().filter(|node| node.is_reachable()).count(),
            edges: topology.edge_count(),
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
            errors,
            asked: progress.asked,
            answered: progress.answered,
            complete: ended && turned_away.nodes == 0 && turned_away.edges == 0,
            nodes_turned_away: turned_away.nodes,
            edges_turned_away: turned_away.edges,
            started: rfc3339(started),
        }
    }
}

/// Writes the three files into `dir`, which is made if missing. An error leaves the files of an earlier crawl as they were.
pub fn save<V: Describe>(dir: &Path, topology: &Topology<V>, summary: &Summary) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    write_whole(&dir.join("nodes.ndjson"), |out| write_nodes(out, topology))?;
    write_whole(&dir.join("edges.ndjson"), |out| write_edges(out, topology))?;
    write_whole(&dir.join("crawl.json"), |out| {
        serde_json::to_writer_pretty(&mut *out, summary)?;
        writeln!(out)
    })
}

/// `nodes.ndjson`.
pub fn write_nodes<V: Describe>(out: &mut impl Write, topology: &Topology<V>) -> io::Result<()> {
    topology.nodes().iter().try_for_each(|node| write_line(out, &node.row()))
}

/// `edges.ndjson`.
pub fn write_edges<V: Describe>(out: &mut impl Write, topology: &Topology<V>) -> io::Result<()> {
    topology.edges().try_for_each(|(from, to)| write_line(out, &from.edge(to)))
}

fn write_line(out: &mut impl Write, row: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, row)?;
    writeln!(out)
}

/// Fills a file beside `path`, forces it to disk and renames it.
fn write_whole(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let beside = path.with_added_extension(format!("tmp-{}", std::process::id()));
    let written = (|| {
        let mut out = BufWriter::new(File::create(&beside)?);
        fill(&mut out)?;
        out.into_inner()?.sync_all()?;
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// `2026-11-21T10:42:08.450Z`. Before 1970 counts as 1970.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Civil calendar from the number of days: years start in March, so that the leap day is the last one (Howard Hinnant, "chrono-Compatible
    // Low-Level Date Algorithms").
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second, milli) = (second / 3_600, second / 60 % 60, second % 60, since.subsec_millis());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use super::super::topology::Limits;
    use super::*;

    #[derive(Serialize)]
    struct Named {
        id: u8,
    }

    impl Vertex for Named {
        type Id = u8;
        fn id(&self) -> u8 {
            self.id
        }
    }

    impl Describe for Named {
        const NETWORK: &'static str = "test";
        fn row(&self) -> impl Serialize {
            self
        }
        fn edge(&self, to: &Self) -> Edge {
            Edge { from: self.id.to_string(), to: to.id.to_string(), kind: "table", distance: Some(256) }
        }
        fn is_reachable(&self) -> bool {
            self.id < 3
        }
        fn error(&self) -> Option<&str> {
            (!self.is_reachable()).then_some("timeout")
        }
    }

    fn crawled() -> (Topology<Named>, Summary) {
        let mut topology = Topology::new(Limits::default());
        (1..=3).for_each(|id| {
            topology.add(Named { id });
        });
        topology.connect(1, 2);
        topology.connect(2, 3);
        let summary = Summary::new(&topology, Progress::default(), UNIX_EPOCH, Duration::from_micros(1_234_567), true);
        (topology, summary)
    }

    #[test]
    fn three_files_one_object_a_line_and_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let (topology, summary) = crawled();
        let out = dir.path().join("new/out");
        save(&out, &topology, &summary).unwrap();
        save(&out, &topology, &summary).unwrap();
        let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
        assert_eq!(read("nodes.ndjson"), "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n");
        let second = r#"{"from":"2","to":"3","kind":"table","distance":256}"#;
        assert_eq!(read("edges.ndjson").lines().nth(1), Some(second));
        let json: serde_json::Value = serde_json::from_str(&read("crawl.json")).unwrap();
        assert_eq!((&json["found"], &json["reachable"], &json["edges"]), (&3.into(), &2.into(), &2.into()));
        assert_eq!(
            (&json["seconds"], &json["errors"]["timeout"], &json["complete"]),
            (&1.235.into(), &1.into(), &true.into())
        );
        assert_eq!(fs::read_dir(&out).unwrap().count(), 3, "no temporary file is left");
    }

    #[test]
    fn what_cannot_be_written_leaves_the_earlier_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nodes.ndjson");
        fs::write(&path, "earlier\n").unwrap();
        let result = write_whole(&path, |out| {
            out.write_all(b"half a li")?;
            Err(io::Error::other("disk full"))
        });
        assert!(result.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "earlier\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn times_are_civil() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_136_239_445, "2006-01-02T22:04:05.000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_millis(1_450)), "1970-01-01T00:00:01.450Z");
    }
}
