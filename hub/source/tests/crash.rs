//! A mirror survives being killed, and damage to its files.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::host::{Host, Mood};
use common::{Origin, config, fetch, files, git, noise, open, text};
use driftless_render::tree::{Tree, TreeError};
use driftless_source::{Mirror, Opened};

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Not a test of its own: the process that is killed below.
#[tokio::test]
async fn victim() {
    let (Ok(dir), Ok(url)) = (std::env::var("VICTIM_DIR"), std::env::var("VICTIM_URL")) else { return };
    drop(fetch(&open(Path::new(&dir), config(&url))).await);
}

#[tokio::test]
async fn killed_in_the_middle_of_a_fetch() {
    let origin = Origin::new();
    let host = Host::start(origin.root());
    for first in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut good = None;
        if !first {
            host.mood(Mood::Normal);
            good = Some(fetch(&open(dir.path(), config(&host.url("repo.git")))).await.unwrap().revision);
        }
        origin.commit(&[("large", &format!("{first}\n{}", noise(usize::from(first), 40_000)))]);
        host.mood(Mood::HalfPack(9000));
        let seen = host.requests();
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--nocapture"])
            .env("VICTIM_DIR", dir.path())
            .env("VICTIM_URL", host.url("repo.git"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let leftovers =
            || files(dir.path()).into_iter().filter(|f| f.contains("/pack/") && !f.contains("pack-")).count();
        until("half a pack", || host.requests() >= seen + 3 && leftovers() > 0);
        victim.kill().unwrap();
        victim.wait().unwrap();
        assert!(leftovers() > 0, "the killed process left something behind");

        let mirror = open(dir.path(), config(&host.url("repo.git")));
        assert_eq!(mirror.opened(), if first { &Opened::New } else { &Opened::Usable });
        assert_eq!(mirror.current(), good);
        assert_eq!(leftovers(), 0);
        host.mood(Mood::Normal);
        let fetched = fetch(&mirror).await.unwrap();
        assert_eq!(fetched.revision.commit, origin.head());
        assert_eq!(git(&dir.path().join("r1"), &["fsck", "--full"]), "");
    }
}

/// A mirror with two packs, and the folder of its packs.
async fn prepared(origin: &Origin, host: &Host, dir: &Path) -> PathBuf {
    let mirror = open(dir, config(&host.url("repo.git")));
    fetch(&mirror).await.unwrap();
    origin.commit(&[("apps/web/deploy.yaml", &format!("kind: {}\n", dir.display()))]);
    fetch(&mirror).await.unwrap();
    dir.join("r1/objects/pack")
}

fn pack(folder: &Path, extension: &str, largest: bool) -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == extension))
        .collect();
    found.sort_by_key(|p| fs::metadata(p).unwrap().len());
    if largest { found.pop().unwrap() } else { found.swap_remove(0) }
}

/// Packs are read-only files.
fn overwrite(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Damages the mirror in the first folder, whose packs are in the second.
type Damage = fn(&Path, &Path);

#[tokio::test]
async fn a_damaged_mirror_is_made_anew_and_says_so() {
    let origin = Origin::new();
    let host = Host::start(origin.root());
    let damages: [(&str, Damage); 9] = [
        ("a pack cut off", |_, packs| {
            let path = pack(packs, "pack", true);
            let bytes = fs::read(&path).unwrap();
            overwrite(&path, &bytes[..bytes.len() / 2]);
        }),
        ("an empty pack", |_, packs| overwrite(&pack(packs, "pack", true), b"")),
        ("an index cut off", |_, packs| {
            let path = pack(packs, "idx", true);
            let bytes = fs::read(&path).unwrap();
            overwrite(&path, &bytes[..100]);
        }),
        ("a pack gone", |_, packs| fs::remove_file(pack(packs, "pack", false)).unwrap()),
        ("an index gone", |_, packs| fs::remove_file(pack(packs, "idx", false)).unwrap()),
        ("the repository gone", |dir, _| fs::remove_dir_all(dir.join("r1")).unwrap()),
        ("no HEAD", |dir, _| fs::remove_file(dir.join("r1/HEAD")).unwrap()),
        ("state.json garbled", |dir, _| fs::write(dir.join("state.json"), "{\"format\":").unwrap()),
        ("state.json from the future", |dir, _| {
            let text = fs::read_to_string(dir.join("state.json")).unwrap();
            fs::write(dir.join("state.json"), text.replace("\"format\":1", "\"format\":9")).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        let packs = prepared(&origin, &host, dir.path()).await;
        damage(dir.path(), &packs);
        let mirror = open(dir.path(), config(&host.url("repo.git")));
        let Opened::Renewed { reason } = mirror.opened() else { panic!("{what}: {:?}", mirror.opened()) };
        assert!(!reason.is_empty());
        assert_eq!(mirror.current(), None, "{what}");
        let fetched = fetch(&mirror).await.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(fetched.revision.commit, origin.head(), "{what}");
        assert_eq!(git(&dir.path().join("r1"), &["fsck", "--full"]), "", "{what}");
    }
}

#[tokio::test]
async fn damage_met_while_reading_is_repaired_by_the_next_fetch() {
    let origin = Origin::new();
    let noise = noise(0, 4000);
    origin.commit(&[("zz/large", &noise)]);
    let host = Host::start(origin.root());
    let dir = tempfile::tempdir().unwrap();
    let mirror = open(dir.path(), config(&host.url("repo.git")));
    let revision = fetch(&mirror).await.unwrap().revision;
    let path = pack(&dir.path().join("r1/objects/pack"), "pack", true);
    // In place: the mirror has the file open, as it would when a disk goes bad.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let middle = fs::metadata(&path).unwrap().len() / 2;
    fs::File::options().write(true).open(&path).unwrap().write_all_at(&[0xff; 64], middle).unwrap();
    let tree = mirror.tree(&revision).unwrap();
    match tree.read("zz/large") {
        Err(TreeError::Unreadable { path, .. }) => assert_eq!(path, "zz/large"),
        other => panic!("damage was not noticed: {:?}", other.map(|b| b.map(|b| b.len()))),
    }
    let fetched = fetch(&mirror).await.unwrap();
    assert!(fetched.renewed.is_some(), "{fetched:?}");
    assert!(!fetched.changed && fetched.rewound.is_none());
    assert_eq!(text(&mirror.tree(&revision).unwrap(), "zz/large"), Some(noise));
}

#[tokio::test]
async fn leftovers_of_a_swap_are_removed_and_nothing_else() {
    let origin = Origin::new();
    let host = Host::start(origin.root());
    let dir = tempfile::tempdir().unwrap();
    prepared(&origin, &host, dir.path()).await;
    git(dir.path(), &["init", "-q", "--bare", "r2"]);
    fs::create_dir(dir.path().join("keys")).unwrap();
    fs::write(dir.path().join("keys/identity"), "key").unwrap();
    fs::write(dir.path().join("state.json.new"), "{").unwrap();
    fs::write(dir.path().join("notes.txt"), "not ours").unwrap();
    fs::create_dir(dir.path().join("render")).unwrap();
    let mirror = open(dir.path(), config(&host.url("repo.git")));
    assert_eq!(mirror.opened(), &Opened::Usable);
    let mut left: Vec<String> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["lock", "notes.txt", "r1", "render", "state.json"]);
    let twice = Mirror::open(dir.path(), config(&host.url("repo.git"))).unwrap_err();
    assert!(twice.to_string().contains("open elsewhere"), "{twice}");
    assert!(!fetch(&mirror).await.unwrap().changed);
}
