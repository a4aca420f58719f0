//! What a crawl learned: nodes, and who told us of whom.
//!
//! A graph that only grows, with a bound on both nodes and edges: a crawler asks strangers, and a stranger may invent neighbours for ever.
//! What the bounds turn away is counted, never silent. Everything keeps the order in which it was learned, so that one crawl is written the
//! same way twice. Files are in [`super::output`].

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

/// A node of a [`Topology`], with whatever the crawl knows of it.
pub trait Vertex {
    /// The identity under which others speak of it.
    type Id: Copy + Eq + Hash + Debug;

    /// Its identity.
    fn id(&self) -> Self::Id;
}

/// How much a crawl may keep.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Nodes. An Ethereum crawl meets tens of thousands, most of them dead; the default is ten times that.
    pub nodes: usize,
    /// Edges of the whole graph, four bytes each.
    pub edges: usize,
    /// Edges from one node. A discv4 table has 17 × 16 entries, a CometBFT address book a few thousand.
    pub edges_per_node: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { nodes: 500_000, edges: 32_000_000, edges_per_node: 20_480 }
    }
}

/// What became of a node or an edge given to a [`Topology`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// It was not there before.
    New,
    /// It was there already.
    Known,
    /// A limit is reached (counted in [`Topology::turned_away`]), or an end of the edge is unknown.
    Refused,
}

/// Nodes and edges turned away at the limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TurnedAway {
    /// Nodes beyond [`Limits::nodes`].
    pub nodes: u64,
    /// Edges beyond [`Limits::edges`] or [`Limits::edges_per_node`].
    pub edges: u64,
}

/// The graph.
#[derive(Debug)]
pub struct Topology<V: Vertex> {
    limits: Limits,
    index: HashMap<V::Id, u32>,
    nodes: Vec<V>,
    /// Whom each node told us of: indexes in ascending order, one list a node.
    told: Vec<Vec<u32>>,
    edges: usize,
    turned_away: TurnedAway,
}

impl<V: Vertex> Topology<V> {
    /// An empty graph.
    pub fn new(limits: Limits) -> Self {
        let limits = Limits { nodes: limits.nodes.min(u32::MAX as usize), ..limits };
        Topology {
            limits,
            index: HashMap::new(),
            nodes: Vec::new(),
            told: Vec::new(),
            edges: 0,
            turned_away: TurnedAway::default(),
        }
    }

    /// Adds a node unless one of its identity is there, which then stays as it is.
    pub fn add(&mut self, node: V) -> Learned {
        if self.index.contains_key(&node.id()) {
            return Learned::Known;
        }
        if self.nodes.len() >= self.limits.nodes {
            self.turned_away.nodes += 1;
            return Learned::Refused;
        }
        self.index.insert(node.id(), self.nodes.len() as u32);
        self.nodes.push(node);
        self.told.push(Vec::new());
        Learned::New
    }

    /// Notes that `from` told us of `to`; both must have been added.
    pub fn connect(&mut self, from: V::Id, to: V::Id) -> Learned {
        let (Some(&from), Some(&to)) = (self.index.get(&from), self.index.get(&to)) else {
            return Learned::Refused;
        };
        let Some(told) = self.told.get_mut(from as usize) else { return Learned::Refused };
        match told.binary_search(&to) {
            Ok(_) => Learned::Known,
            Err(_) if self.edges >= self.limits.edges || told.len() >= self.limits.edges_per_node => {
                self.turned_away.edges += 1;
                Learned::Refused
            }
            Err(place) => {
                told.insert(place, to);
                self.edges += 1;
                Learned::New
            }
        }
    }

    /// How many nodes a node has told of.
    pub fn told_by(&self, from: &V::Id) -> usize {
        self.index.get(from).and_then(|&place| self.told.get(place as usize)).map_or(0, Vec::len)
    }

    /// The node of that identity.
    pub fn node(&self, id: &V::Id) -> Option<&V> {
        self.nodes.get(*self.index.get(id)? as usize)
    }

    /// The node of that identity, to add what was learned since. Its identity must stay.
    pub fn node_mut(&mut self, id: &V::Id) -> Option<&mut V> {
        self.nodes.get_mut(*self.index.get(id)? as usize)
    }

    /// All nodes, in the order in which they were learned.
    pub fn nodes(&self) -> &[V] {
        &self.nodes
    }

    /// All edges as (who told us, of whom), in the order of [`Self::nodes`].
    pub fn edges(&self) -> impl Iterator<Item = (&V, &V)> {
        self.nodes
            .iter()
            .zip(&self.told)
            .flat_map(move |(from, told)| told.iter().filter_map(move |&to| Some((from, self.nodes.get(to as usize)?))))
    }

    /// Number of edges.
    pub fn edge_count(&self) -> usize {
        self.edges
    }

    /// What the limits kept out.
    pub fn turned_away(&self) -> TurnedAway {
        self.turned_away
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named(&'static str);

    impl Vertex for Named {
        type Id = &'static str;
        fn id(&self) -> Self::Id {
            self.0
        }
    }

    fn graph(limits: Limits, names: &[&'static str]) -> Topology<Named> {
        let mut graph = Topology::new(limits);
        names.iter().for_each(|name| {
            graph.add(Named(name));
        });
        graph
    }

    fn edges(graph: &Topology<Named>) -> Vec<(&str, &str)> {
        graph.edges().map(|(from, to)| (from.0, to.0)).collect()
    }

    #[test]
    fn an_edge_is_kept_once_and_in_the_order_of_learning() {
        let mut graph = graph(Limits::default(), &["ada", "ben", "cyd"]);
        assert_eq!(graph.connect("ben", "cyd"), Learned::New);
        assert_eq!(graph.connect("ada", "cyd"), Learned::New);
        assert_eq!(graph.connect("ada", "ben"), Learned::New);
        assert_eq!(graph.connect("ada", "cyd"), Learned::Known);
        assert_eq!(graph.connect("ada", "nobody"), Learned::Refused);
        assert_eq!(edges(&graph), [("ada", "ben"), ("ada", "cyd"), ("ben", "cyd")]);
        assert_eq!(graph.edge_count(), 3);
    }

    #[test]
    fn one_who_invents_neighbours_meets_the_limits_and_the_rest_stays() {
        let limits = Limits { nodes: 3, edges: 2, edges_per_node: 1 };
        let mut graph = graph(limits, &["ada", "ben", "cyd", "invented", "ada"]);
        assert_eq!(graph.nodes().len(), 3);
        assert_eq!(graph.connect("ada", "ben"), Learned::New);
        assert_eq!(graph.connect("ada", "cyd"), Learned::Refused, "one edge a node");
        assert_eq!(graph.connect("ben", "ada"), Learned::New);
        assert_eq!(graph.connect("cyd", "ada"), Learned::Refused, "two edges in all");
        assert_eq!(graph.connect("ada", "ben"), Learned::Known, "what is there stays known");
        assert_eq!(graph.turned_away(), TurnedAway { nodes: 1, edges: 2 });
    }
}
