//! `kadwire key`, and keys that cannot be used.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::process::{run, stdout_of};

#[test]
fn a_key_is_made_once_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("boot.key");
    let file = file.to_str().unwrap();
    let public = stdout_of(&["key", "generate", file]);
    let shown = stdout_of(&["key", "show", file]);
    assert!(shown.starts_with(&public) && shown.lines().count() == 2, "{shown}");
    assert_eq!(stdout_of(&["bootnode", "--nodekey", file, "--writeaddress"]), public);
    for args in [["key", "generate", file], ["bootnode", "--genkey", file]] {
        let output = run(&args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(stderr.contains("exists and is not overwritten: take another name"), "{args:?}: {stderr}");
    }
    assert_eq!(stdout_of(&["key", "show", file]), shown, "it is still the same");
}

#[test]
fn a_file_that_is_no_key_of_ours_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("boot.key");
    let file = place.to_str().unwrap();
    let show = |file: &str| String::from_utf8(run(&["key", "show", file]).stderr).unwrap();
    assert!(show(file).contains("No such file"), "{}", show(file));
    fs::write(&place, "").unwrap();
    assert!(show(file).contains("chmod 600"), "{}", show(file));
    fs::set_permissions(&place, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(show(file).contains("64 hex"), "{}", show(file));
    let told = show(folder.path().to_str().unwrap());
    assert!(told.contains("is a directory") && !told.contains("chmod"), "{told}");
}
