//! A slow node answers a question and its repetition; Neighbors does not say which.

use super::*;

fn neighbors(scene: &mut Scene, count: usize, network: u8) -> Vec<NodeRecord> {
    (0..count).map(|n| scene.peer(&format!("24.{network}.{n}.1:30303")).record()).collect()
}

/// The answer as nodes send it: twelve in a datagram at most, and one datagram at least.
fn answers(scene: &mut Scene, peer: &Peer, nodes: &[NodeRecord]) -> Result<(), Rejected> {
    let (first, rest) = nodes.split_at(nodes.len().min(12));
    for chunk in std::iter::once(first).chain(rest.chunks(12)) {
        scene.hears_neighbors(peer, chunk.iter().map(Neighbor::from).collect())?;
    }
    Ok(())
}

fn ask(scene: &mut Scene, peer: &Peer, target: u8) {
    scene.machine.find_node(scene.now, &peer.record(), [target; 64]).unwrap();
}

/// Asks, and waits until the question has gone out twice.
fn ask_twice(scene: &mut Scene, peer: &Peer, target: u8) {
    ask(scene, peer, target);
    let sent = scene.wait(ms(300));
    assert_eq!(sent.iter().filter(|sent| sent.message.kind() == Kind::FindNode).count(), 2);
}

fn told(nodes: &[NodeRecord]) -> Option<Result<Answer, RequestError>> {
    Some(Ok(Answer::Neighbors(nodes.to_vec())))
}

#[test]
fn the_second_answer_to_one_question_is_not_the_answer_to_the_next() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:30303");
    let (near, far) = (neighbors(&mut scene, 16, 3), neighbors(&mut scene, 16, 4));
    ask_twice(&mut scene, &peer, 1);
    answers(&mut scene, &peer, &near).unwrap();
    assert_eq!(scene.outcome(), told(&near));
    ask(&mut scene, &peer, 2);
    answers(&mut scene, &peer, &near).unwrap();
    assert_eq!(scene.outcome(), None, "that was the first one's");
    answers(&mut scene, &peer, &far).unwrap();
    assert_eq!(scene.outcome(), told(&far));
    ask(&mut scene, &peer, 3);
    answers(&mut scene, &peer, &far).unwrap();
    assert_eq!(scene.outcome(), told(&far), "that question went out once, so this is an answer");
}

#[test]
fn an_answer_that_tells_the_same_costs_a_repetition() {
    for count in [0, 3, 16] {
        let mut scene = Scene::new();
        let peer = scene.bonded("24.0.1.1:30303");
        let all = neighbors(&mut scene, count, 3);
        ask_twice(&mut scene, &peer, 1);
        answers(&mut scene, &peer, &all).unwrap();
        scene.wait(ms(60));
        assert_eq!(scene.outcome(), told(&all));
        ask(&mut scene, &peer, 2);
        answers(&mut scene, &peer, &all).unwrap();
        scene.wait(ms(300));
        assert_eq!(scene.outcome(), None);
        answers(&mut scene, &peer, &all).unwrap();
        scene.wait(ms(60));
        assert_eq!(scene.outcome(), told(&all), "{count} nodes");
    }
}

#[test]
fn an_echo_is_not_waited_for_longer_than_a_second() {
    let mut scene = Scene::new();
    let peer = scene.bonded("24.0.1.1:30303");
    let all = neighbors(&mut scene, 16, 3);
    ask_twice(&mut scene, &peer, 1);
    answers(&mut scene, &peer, &all).unwrap();
    assert_eq!(scene.outcome(), told(&all));
    scene.wait(secs(1));
    ask(&mut scene, &peer, 2);
    answers(&mut scene, &peer, &all).unwrap();
    assert_eq!(scene.outcome(), told(&all));
}
