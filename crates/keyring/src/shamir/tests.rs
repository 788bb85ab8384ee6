use proptest::prelude::*;
use rand::SeedableRng as _;
use ring::rand::SystemRandom;

use super::*;

fn secret() -> OpenKey {
    OpenKey::build(|bytes| bytes.iter_mut().zip(0..).for_each(|(byte, i)| *byte = i))
}

/// Coefficients of the published vector: 40..5f and 80..9f.
fn published() -> Vec<u8> {
    (0x40..0x60).chain(0x80..0xa0).collect()
}

#[test]
fn shares_are_the_published_ones() {
    for (x, y) in [
        (1, "c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf"),
        (2, "b6b1b8bfaaada4a38e89808792959c9bc6c1c8cfdaddd4d3fef9f0f7e2e5eceb"),
        (3, "7671787f6a6d64634e49404752555c5b0601080f1a1d14133e39303722252c2b"),
        (5, "0316293c57427d68abbe8194ffead5c0485d62771c093623e0f5cadfb4a19e8b"),
    ] {
        let found = value_at(x, &secret(), &published());
        assert_eq!(hex::encode(found.danger_expose()), y, "x = {x}");
    }
}

#[test]
fn any_three_of_the_published_shares_open() {
    let point = |x| Point { x, y: value_at(x, &secret(), &published()) };
    for xs in [[1, 2, 3], [5, 1, 2], [3, 5, 2], [16, 9, 11]] {
        assert!(combine(&xs.map(point)).same_as(&secret()), "{xs:?}");
    }
    assert!(!combine(&[1, 2].map(point)).same_as(&secret()), "two of three");
}

#[test]
fn numbers_that_make_no_sharing_are_refused() {
    for (threshold, shares) in [(0, 0), (1, 1), (1, 3), (4, 3), (2, 17), (17, 17), (2, 255)] {
        assert!(Quorum::new(threshold, shares).is_err(), "{threshold} of {shares}");
    }
    for (threshold, shares) in [(2, 2), (3, 5), (16, 16)] {
        assert!(Quorum::new(threshold, shares).is_ok(), "{threshold} of {shares}");
    }
}

/// Takes the coefficient out of a splitting with threshold 2: y(1) = secret + coefficient.
fn count_coefficients(secret: &OpenKey, splits: usize) -> [u64; 256] {
    let quorum = Quorum::new(2, 2).unwrap();
    let random = SystemRandom::new();
    let mut counts = [0; 256];
    for _ in 0..splits {
        let points = split(secret, quorum, &random).unwrap();
        let y = points[0].y.danger_expose();
        for (y, s) in y.iter().zip(secret.danger_expose()) {
            counts[usize::from(y ^ s)] += 1;
        }
    }
    counts
}

/// 255 degrees of freedom: the sum lies in 150 to 400 but for one time in ten million.
fn chi_square(counts: &[u64; 256]) -> f64 {
    let expected = counts.iter().sum::<u64>() as f64 / 256.0;
    counts.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum()
}

/// Regression for the class of RUSTSEC-2024-0398.
#[test]
fn coefficients_of_a_million_splits_are_uniform() {
    let counts = count_coefficients(&secret(), 31_250);
    assert_eq!(counts.iter().sum::<u64>(), 1_000_000);
    assert!(counts[0] > 0, "zero occurs");
    let sum = chi_square(&counts);
    assert!((150.0..400.0).contains(&sum), "chi-square {sum}");

    let mut never_zero = counts;
    never_zero[0] = 0;
    assert!(chi_square(&never_zero) > 400.0, "the test would see the bias");
}

/// How vsss-rs writes a share: x, then the values.
fn theirs(point: &Point) -> Vec<u8> {
    [&[point.x], point.y.danger_expose().as_slice()].concat()
}

proptest! {
    #[test]
    fn any_quorum_of_shares_opens(
        bytes: [u8; 32],
        (threshold, shares) in (2..=16u8).prop_flat_map(|n| (2..=n, Just(n))),
        order in Just((0..16usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let secret = OpenKey::from_slice(&bytes).unwrap();
        let quorum = Quorum::new(threshold, shares).unwrap();
        let mut points = split(&secret, quorum, &SystemRandom::new()).unwrap();
        points.sort_by_key(|point| order[usize::from(point.x - 1)]);
        points.truncate(threshold.into());
        prop_assert!(combine(&points).same_as(&secret));
    }

    #[test]
    fn vsss_opens_what_we_split(bytes: [u8; 32], threshold in 2..=8u8) {
        let secret = OpenKey::from_slice(&bytes).unwrap();
        let quorum = Quorum::new(threshold, 8).unwrap();
        let points = split(&secret, quorum, &SystemRandom::new()).unwrap();
        let shares: Vec<_> = points.iter().rev().take(threshold.into()).map(theirs).collect();
        prop_assert_eq!(vsss_rs::Gf256::combine_bytes(shares).unwrap(), bytes);
    }

    #[test]
    fn we_open_what_vsss_split(bytes: [u8; 32], threshold in 2..=8usize, seed: u64) {
        let random = rand::rngs::StdRng::seed_from_u64(seed);
        let shares = vsss_rs::Gf256::split_bytes(threshold, 8, bytes, random).unwrap();
        let points: Vec<_> = shares
            .iter()
            .take(threshold)
            .map(|share| Point { x: share[0], y: OpenKey::from_slice(&share[1..]).unwrap() })
            .collect();
        prop_assert!(combine(&points).same_as(&OpenKey::from_slice(&bytes).unwrap()));
    }
}
