//! Secret sharing (Shamir 1979) of a 32-byte key over GF(2^8), byte by byte.
//!
//! Byte `i` of the secret is the constant term of a polynomial of degree `threshold - 1`; share `x` holds
//! the value of each polynomial at `x`, for x = 1 to n. The other coefficients are uniform over all 256
//! elements, zero included: where zero never occurs, each new splitting of one secret rules out values
//! of it (RUSTSEC-2024-0398). They come from the operating system in one call.

mod gf256;

use std::iter::once;

use ring::rand::SecureRandom;
use twinkeep_envelope::{OpenKey, RandomnessFailed, SecretBytes};

use gf256::{inverse, mul};

/// How many shares there are and how many open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quorum {
    threshold: u8,
    shares: u8,
}

/// The numbers make no sharing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{threshold} of {shares} shares: the threshold is at least 2, at most the number of shares, which is at most {}",
    Quorum::SHARES_MAX
)]
pub struct InvalidQuorum {
    /// Shares that were to open.
    pub threshold: u8,
    /// Shares that there were to be.
    pub shares: u8,
}

impl Quorum {
    /// Most shares of a secret.
    pub const SHARES_MAX: u8 = 16;

    /// One share that is the secret itself: for trying things out.
    pub const SINGLE: Self = Self { threshold: 1, shares: 1 };

    /// Checks the numbers: 2 ≤ threshold ≤ shares ≤ 16.
    pub fn new(threshold: u8, shares: u8) -> Result<Self, InvalidQuorum> {
        if threshold < 2 || threshold > shares || shares > Self::SHARES_MAX {
            return Err(InvalidQuorum { threshold, shares });
        }
        Ok(Self { threshold, shares })
    }

    /// How many shares open.
    #[must_use]
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// How many shares there are.
    #[must_use]
    pub fn shares(&self) -> u8 {
        self.shares
    }
}

/// A point of the polynomials.
#[derive(Debug)]
pub(crate) struct Point {
    /// Where, from 1; no secret.
    pub(crate) x: u8,
    /// Their values.
    pub(crate) y: OpenKey,
}

/// Splits a key into points 1 to n.
pub(crate) fn split(
    secret: &OpenKey,
    quorum: Quorum,
    random: &dyn SecureRandom,
) -> Result<Vec<Point>, RandomnessFailed> {
    let len = usize::from(quorum.threshold - 1) * OpenKey::LEN;
    let coefficients = SecretBytes::generate(len, random)?;
    Ok((1..=quorum.shares)
        .map(|x| Point { x, y: value_at(x, secret, coefficients.danger_expose()) })
        .collect())
}

/// Returns the constant terms that the points determine. Whether they are the secret that was split
/// shows in its key check value alone. The `x` are distinct and not zero.
pub(crate) fn combine(points: &[Point]) -> OpenKey {
    OpenKey::build(|secret| {
        for point in points {
            let weight = weight_at_zero(point.x, points);
            for (byte, y) in secret.iter_mut().zip(point.y.danger_expose()) {
                *byte ^= mul(*y, weight);
            }
        }
    })
}

/// Evaluates the polynomials by Horner's rule; `coefficients` are those of x, of x^2 and so on.
fn value_at(x: u8, secret: &OpenKey, coefficients: &[u8]) -> OpenKey {
    OpenKey::build(|y| {
        let lowest = secret.danger_expose().as_slice();
        for power in coefficients.chunks_exact(OpenKey::LEN).rev().chain(once(lowest)) {
            for (y, coefficient) in y.iter_mut().zip(power) {
                *y = mul(*y, x) ^ coefficient;
            }
        }
    })
}

/// Lagrange's weight of a point for the value at zero; of the `x` alone, so no secret.
fn weight_at_zero(x: u8, points: &[Point]) -> u8 {
    let others = points.iter().map(|point| point.x).filter(|other| *other != x);
    others.fold(1, |weight, other| mul(weight, mul(other, inverse(other ^ x))))
}

#[cfg(test)]
mod tests;
