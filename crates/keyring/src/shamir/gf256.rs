//! The field GF(2^8) with the polynomial x^8 + x^4 + x^3 + x + 1 (0x11B), without tables.
//!
//! Tables indexed by secret bytes tell the cache which byte it was (CVE-2023-25000 in Vault). Here
//! no address and no branch depends on an operand: this file has no index expression at all, which a
//! test reads it for.

use std::hint::black_box;

/// Multiplies two elements.
pub(super) fn mul(a: u8, b: u8) -> u8 {
    let step = |(product, a, b): (u8, u8, u8)| {
        let reduced = (a << 1) ^ (0x1b & mask(a >> 7));
        (product ^ (a & mask(b & 1)), reduced, b >> 1)
    };
    let (product, ..) = (0..8).fold((0, a, b), |state, _| step(state));
    product
}

/// Inverts an element: a^254, since a^255 = 1 for all but zero; zero gives zero.
pub(super) fn inverse(a: u8) -> u8 {
    // 254 = 0b1111_1110: the product of a^2, a^4, …, a^128.
    let (inverse, _) = (0..7).fold((1, a), |(product, power), _| {
        let power = mul(power, power);
        (mul(product, power), power)
    });
    inverse
}

/// All ones for 1, zero for 0. Opaque, so that the compiler cannot make a branch of it.
fn mask(bit: u8) -> u8 {
    black_box(0u8.wrapping_sub(bit))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiplies by the book: shift, add, and reduce by 0x11B.
    fn mul_by_the_book(a: u8, b: u8) -> u8 {
        let mut product = (0..8)
            .filter(|i| b >> i & 1 == 1)
            .fold(0u16, |product, i| product ^ (u16::from(a) << i));
        for bit in (8..16).rev() {
            if product >> bit & 1 == 1 {
                product ^= 0x11b << (bit - 8);
            }
        }
        u8::try_from(product).unwrap()
    }

    #[test]
    fn products_are_right_for_all_pairs() {
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(mul(a, b), mul_by_the_book(a, b), "{a:#x} * {b:#x}");
                let theirs = vsss_rs::Gf256(a) * vsss_rs::Gf256(b);
                assert_eq!(mul(a, b), theirs.0, "{a:#x} * {b:#x}");
            }
        }
        // FIPS 197, 4.2.
        assert_eq!(mul(0x57, 0x83), 0xc1);
    }

    #[test]
    fn inverses_are_right_for_all_elements() {
        assert_eq!(inverse(0), 0);
        for a in 1..=255 {
            assert_eq!(mul(a, inverse(a)), 1, "{a:#x}");
        }
    }

    #[test]
    fn no_index_expression_occurs() {
        for source in [include_str!("gf256.rs"), include_str!("mod.rs")] {
            let code = source.split("#[cfg(test)]").next().unwrap();
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                let indexed = line.char_indices().filter(|(_, c)| *c == '[').any(|(at, _)| {
                    line[..at].ends_with(|c: char| c.is_alphanumeric() || ")]_".contains(c))
                });
                assert!(!indexed, "an index expression: {line}");
            }
            assert!(!code.contains(".get("), "an index by another name");
        }
    }
}
