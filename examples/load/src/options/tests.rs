use super::*;

fn parsed(words: &[&str]) -> Result<Options, String> {
    let parser = lexopt::Parser::from_iter(std::iter::once("load").chain(words.iter().copied()));
    Options::parse(parser).map_err(|e| e.to_string())?.ok_or_else(|| "help".to_owned())
}

#[test]
fn missing_options_have_defaults() {
    let options = parsed(&[]).unwrap();
    assert_eq!(options.phases(), [Phase::Fill, Phase::Run]);
    assert_eq!(options.length, Length::Time(Duration::from_secs(30)));
    assert_eq!(options.popularity, Popularity::Zipf(0.99));
    assert_eq!(options.address, Address::Tcp("127.0.0.1:6379".into()));
}

#[test]
fn given_options_are_used() {
    let line = "-n 1m -d 100-1K -P 16 -c 8 -t 4 --read-share 90% --popularity zipf:1.2 --requests 5k \
        --idle 10m --rate 20k --verify 1 --content text --phases run,first /run/redis.sock";
    let options = parsed(&line.split_whitespace().collect::<Vec<_>>()).unwrap();
    assert_eq!((options.keys, options.pipeline), (1_000_000, 16));
    assert_eq!((options.connections, options.threads), (8, 4));
    assert_eq!(options.sizes, Sizes::Range(100, 1024));
    assert_eq!((options.read_share, options.verify, options.rate), (0.9, 1.0, Some(20_000.0)));
    assert_eq!(options.popularity, Popularity::Zipf(1.2));
    assert_eq!(options.length, Length::Requests(5000));
    assert_eq!(options.idle, Some(Duration::from_secs(600)));
    assert_eq!(options.phases(), [Phase::Run, Phase::First]);
    assert_eq!(options.kind, Kind::Text);
    assert_eq!(options.address, Address::Unix("/run/redis.sock".into()));
}

#[test]
fn a_dataset_is_as_many_keys_as_fit() {
    let keys =
        |line: &str| parsed(&line.split(' ').collect::<Vec<_>>()).map(|options| options.keys);
    // Keys of 16 bytes.
    assert_eq!(keys("--size 84 --dataset 100000"), Ok(1000));
    assert_eq!(keys("--dataset 99999 --size 84"), Ok(999));
    assert_eq!(keys("--size 80 --dataset 10K --prefix prefix:"), Ok(10_240 / 99));
    for size in ["10-200", "lognormal:300:1.0"] {
        let line = format!("--size {size} --dataset 1M");
        let options = parsed(&line.split(' ').collect::<Vec<_>>()).unwrap();
        let bytes =
            |keys: u64| (0..keys).map(|key| 16 + options.content().size(key)).sum::<usize>();
        assert!(bytes(options.keys) <= 1 << 20 && bytes(options.keys + 1) > 1 << 20, "{size}");
    }
    assert!(keys("--size 500 --dataset 515").is_err());
    assert!(keys("--dataset 1M --keys 5").is_err());
}

#[test]
fn idle_adds_the_first_phase() {
    let options = parsed(&["--idle", "5s"]).unwrap();
    assert_eq!(options.phases(), [Phase::Fill, Phase::Run, Phase::First]);
}

#[test]
fn each_thread_has_a_connection() {
    assert_eq!(parsed(&["-c", "2", "-t", "8"]).unwrap().threads, 2);
}

#[test]
fn invalid_options_are_refused() {
    for line in [
        "--keys 0",
        "--keys 2^33",
        "--pipeline 0",
        "--connections 1m",
        "--phases fill,sleep",
        "--popularity gauss",
        "--popularity zipf:-1",
        "--content xml",
        "--ratio 0.5",
        "--ttl 0.5s",
        "--duration 1s --requests 5",
        "--rate 5 --think 1s",
        "--sizes 5",
    ] {
        assert!(parsed(&line.split(' ').collect::<Vec<_>>()).is_err(), "{line}");
    }
    assert_eq!(parsed(&["-h"]).unwrap_err(), "help");
}

#[test]
fn the_help_names_every_option() {
    let source = include_str!("mod.rs");
    let names = source.split("Long(\"").skip(1).map(|rest| &rest[..rest.find('"').unwrap()]);
    let mut seen = 0;
    for name in names {
        assert!(HELP.contains(&format!("--{name}")), "--{name}");
        seen += 1;
    }
    assert!(seen > 20, "{seen} options found");
}
