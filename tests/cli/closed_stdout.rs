//! A reader of stdout that goes away (`kadwire … | head -1`) ends the command, without a panic and without an error.

use std::process::{Command, Stdio};

#[test]
fn a_reader_that_goes_away_is_no_error() {
    for args in
        [&["bootnode", "--addr", "127.17.3.1:0"][..], &["devnet", "2"], &["crawl", "eth", "--devnet", "2", "--json"]]
    {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kadwire"))
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked") && !stderr.contains("error:"), "{args:?}: {stderr}");
    }
}
