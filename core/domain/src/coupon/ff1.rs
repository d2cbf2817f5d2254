//! FF1 over bit strings: a keyed permutation of the numbers below 2^bits, in batches.
//!
//! The method is FF1 of NIST SP 800-38G (algorithm 7 in section 5.1,
//! <https://doi.org/10.6028/NIST.SP.800-38G>) with AES-256, radix 2 and an empty tweak. Its draft revision
//! 1 requires domains of at least a million elements, hence [`MIN_BITS`]. A number represents its bits,
//! most significant first. There is no decryption, because codes are only generated.
//!
//! It is fast because with radix 2 the numerals are machine words; P, the first block of the pseudo-random
//! function, depends only on the length and is encrypted once; Q is then one block, and the Q blocks of
//! many elements are encrypted together.

use std::fmt;

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes256, Block};

/// Minimum number of bits: 2^20 is the smallest power of two above a million.
pub const MIN_BITS: u32 = 20;

/// Maximum number of bits: the larger half must fit in 64 bits, and the size of the domain in a `u128`.
pub const MAX_BITS: u32 = 127;

/// Rounds of the Feistel network, fixed by SP 800-38G.
const ROUNDS: u8 = 10;

/// Elements in a round. A multiple of the blocks that AES encrypts together (8 with AES-NI and on ARM, 30
/// with VAES), small enough that all their data stays in the L1 cache.
const LANES: usize = 120;

/// A keyed permutation of `0..2^bits`.
#[derive(Clone)]
pub struct Ff1 {
    cipher: Aes256,
    /// u and v of the standard: bits of the left and the right half. They differ by one if `bits` is odd.
    left_bits: u32,
    right_bits: u32,
    /// AES(P), the state of the CBC-MAC before Q.
    after_p: u128,
    /// The position of the round number in Q: above the b bytes of NUM(B).
    round_shift: u32,
    /// The position of the low 64 bits of y in R: y is its first d bytes.
    y_shift: u32,
}

/// The halves of a batch's elements, and the blocks of a round.
struct Lanes {
    left: [u64; LANES],
    right: [u64; LANES],
    blocks: [Block; LANES],
}

impl Ff1 {
    /// The permutation of `0..2^bits` under `key`.
    ///
    /// # Panics
    /// If `bits` is not within [`MIN_BITS`]`..=`[`MAX_BITS`].
    pub fn new(key: &[u8; 32], bits: u32) -> Self {
        assert!((MIN_BITS..=MAX_BITS).contains(&bits), "FF1 over {bits} bits");
        let cipher = Aes256::new(key.into());
        let left_bits = bits / 2;
        let right_bits = bits - left_bits;
        let numeral_bytes = right_bits.div_ceil(8);
        let y_bytes = 4 * numeral_bytes.div_ceil(4) + 4;
        let mut p = Block::from(first_block(bits, left_bits).to_be_bytes());
        cipher.encrypt_block(&mut p);
        Self {
            cipher,
            left_bits,
            right_bits,
            after_p: u128::from_be_bytes(p.into()),
            round_shift: 8 * numeral_bytes,
            y_shift: 128 - 8 * y_bytes,
        }
    }

    /// Replaces each element, which must be below 2^bits, by its image. An image does not depend on the
    /// other elements of the batch.
    pub fn permute(&self, elements: &mut [u128]) {
        let mut lanes = Lanes { left: [0; LANES], right: [0; LANES], blocks: [Block::default(); LANES] };
        for batch in elements.chunks_mut(LANES) {
            self.permute_batch(batch, &mut lanes);
        }
    }

    fn permute_batch(&self, batch: &mut [u128], lanes: &mut Lanes) {
        let left = &mut lanes.left[..batch.len()];
        let right = &mut lanes.right[..batch.len()];
        let blocks = &mut lanes.blocks[..batch.len()];
        for ((element, left), right) in batch.iter().zip(&mut *left).zip(&mut *right) {
            *left = low_bits(element >> self.right_bits, self.left_bits);
            *right = low_bits(*element, self.right_bits);
        }
        // Two rounds in each iteration, so that the halves need not be swapped.
        for round in (0..ROUNDS).step_by(2) {
            self.round(round, right, left, self.left_bits, blocks);
            self.round(round + 1, left, right, self.right_bits, blocks);
        }
        for ((element, left), right) in batch.iter_mut().zip(left).zip(right) {
            *element = u128::from(*left) << self.right_bits | u128::from(*right);
        }
    }

    /// Adds the pseudo-random number of each `from` to its `into`, which has `bits` bits.
    fn round(&self, round: u8, from: &[u64], into: &mut [u64], bits: u32, blocks: &mut [Block]) {
        let start = self.after_p ^ (u128::from(round) << self.round_shift);
        for (block, numeral) in blocks.iter_mut().zip(from) {
            *block = Block::from((start ^ u128::from(*numeral)).to_be_bytes());
        }
        self.cipher.encrypt_blocks(blocks);
        for (block, numeral) in blocks.iter().zip(into) {
            let r = u128::from_be_bytes((*block).into());
            *numeral = low_bits(u128::from(*numeral) + (r >> self.y_shift), bits);
        }
    }
}

/// P of the standard: version 1, method 2, Feistel 1, radix 2, 10 rounds, u, n, and an empty tweak.
fn first_block(bits: u32, left_bits: u32) -> u128 {
    0x0102_0100_0002_0a00_0000_0000_0000_0000 | u128::from(left_bits) << 64 | u128::from(bits) << 32
}

/// The low `bits` bits of a number, 1 to 64.
#[expect(clippy::cast_possible_truncation, reason = "the high bits are discarded on purpose")]
fn low_bits(number: u128, bits: u32) -> u64 {
    number as u64 & (u64::MAX >> (64 - bits))
}

/// Prints the size, but not the key.
impl fmt::Debug for Ff1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ff1").field("bits", &(self.left_bits + self.right_bits)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use fpe::ff1::{FF1, FlexibleNumeralString};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The image by the fpe crate, which passes the standard's test vectors.
    fn reference(key: &[u8; 32], bits: u32, element: u128) -> u128 {
        let numerals: Vec<u16> = (0..bits).rev().map(|bit| u16::from(element >> bit & 1 == 1)).collect();
        let ff1 = FF1::<Aes256>::new(key, 2).unwrap();
        let image = ff1.encrypt(&[], &FlexibleNumeralString::from(numerals)).unwrap();
        Vec::from(image).into_iter().fold(0, |number, bit| number << 1 | u128::from(bit))
    }

    fn permuted(key: &[u8; 32], bits: u32, mut elements: Vec<u128>) -> Vec<u128> {
        Ff1::new(key, bits).permute(&mut elements);
        elements
    }

    #[test]
    fn the_ends_of_every_domain_agree_with_the_reference() {
        for bits in MIN_BITS..=MAX_BITS {
            let elements = vec![0, 1, 1 << (bits / 2), 1 << (bits - 1), (1 << bits) - 1];
            let expected: Vec<u128> =
                elements.iter().map(|element| reference(&[7; 32], bits, *element)).collect();
            assert_eq!(permuted(&[7; 32], bits, elements), expected, "{bits} bits");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_batch_agrees_with_the_reference(
            key: [u8; 32], bits in MIN_BITS..=MAX_BITS, elements in vec(any::<u128>(), 0..300),
        ) {
            let elements: Vec<u128> = elements.into_iter().map(|element| element % (1 << bits)).collect();
            let expected: Vec<u128> =
                elements.iter().map(|element| reference(&key, bits, *element)).collect();
            prop_assert_eq!(permuted(&key, bits, elements), expected);
        }
    }

    #[test]
    fn the_smallest_domain_is_permuted() {
        let mut images = permuted(&[9; 32], MIN_BITS, (0..1 << MIN_BITS).collect());
        assert!(!images.is_sorted());
        images.sort_unstable();
        assert!(images.into_iter().eq(0..1 << MIN_BITS));
    }

    #[test]
    fn debug_does_not_print_the_key() {
        assert_eq!(format!("{:?}", Ff1::new(&[9; 32], 64)), "Ff1 { bits: 64, .. }");
    }
}
