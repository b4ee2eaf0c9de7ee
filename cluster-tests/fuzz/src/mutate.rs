//! Changes inputs: bits and bytes, numbers that matter, pieces taken out, doubled, put in or taken
//! from another input.

use crate::chance::Chance;

/// Changes on top of each other, at most.
const CHANGES_MAX: usize = 6;

/// Numbers at the edges of what lengths and counts may be.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// Makes new inputs of old ones.
#[derive(Debug)]
pub struct Mutator<'a> {
    chance: Chance,
    words: &'a [&'a [u8]],
    bytes_max: usize,
}

impl<'a> Mutator<'a> {
    /// With pieces that inputs are made of, and how long they may be.
    pub fn new(chance: Chance, words: &'a [&'a [u8]], bytes_max: usize) -> Mutator<'a> {
        Mutator { chance, words, bytes_max }
    }

    /// One time in two.
    pub fn is_heads(&mut self) -> bool {
        self.chance.below(2) == 0
    }

    /// One of the inputs, changed.
    pub fn change(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        // What was found last has led furthest: every second time it is one of those.
        let recent = inputs.len().min(32);
        let place = if self.is_heads() {
            inputs.len() - 1 - self.chance.below(recent)
        } else {
            self.chance.below(inputs.len())
        };
        let mut input = inputs[place].clone();
        for _ in 0..=self.chance.below(CHANGES_MAX) {
            self.change_once(&mut input, inputs);
        }
        input.truncate(self.bytes_max);
        input
    }

    fn change_once(&mut self, input: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        if input.is_empty() {
            input.push(self.byte());
            return;
        }
        match self.chance.below(12) {
            0 => {
                let at = self.chance.below(input.len());
                input[at] ^= 1 << self.chance.below(8);
            }
            1 => {
                let at = self.chance.below(input.len());
                input[at] = self.byte();
            }
            2 => {
                let at = self.chance.below(input.len());
                let step = 1 + self.chance.below(8) as u8;
                let up = self.is_heads();
                input[at] =
                    if up { input[at].wrapping_add(step) } else { input[at].wrapping_sub(step) };
            }
            3 | 4 => self.put_number(input),
            5 => {
                let piece = self.piece(input.len());
                input.drain(piece);
            }
            6 => input.truncate(self.chance.below(input.len())),
            7 => {
                let piece = input[self.piece(input.len())].to_vec();
                self.put_in(input, &piece);
            }
            8 => {
                let bytes: Vec<u8> = (0..=self.chance.below(8)).map(|_| self.byte()).collect();
                self.put_in(input, &bytes);
            }
            9 | 10 if !self.words.is_empty() => {
                let word = self.words[self.chance.below(self.words.len())];
                self.put_in(input, word);
            }
            _ => {
                let other = &inputs[self.chance.below(inputs.len())];
                if !other.is_empty() {
                    let piece = other[self.piece(other.len())].to_vec();
                    self.put_in(input, &piece);
                }
            }
        }
    }

    fn byte(&mut self) -> u8 {
        self.chance.number() as u8
    }

    /// A range of at least one and mostly few bytes.
    fn piece(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.chance.below(length);
        let most = if self.is_heads() { 8 } else { length };
        start..length.min(start + 1 + self.chance.below(most))
    }

    /// Puts bytes between others, or over them.
    fn put_in(&mut self, input: &mut Vec<u8>, bytes: &[u8]) {
        let at = self.chance.below(input.len() + 1);
        let end = if self.is_heads() { at } else { input.len().min(at + bytes.len()) };
        input.splice(at..end, bytes.iter().copied());
    }

    /// A number of 1, 2, 4 or 8 bytes, in either order of bytes.
    fn put_number(&mut self, input: &mut [u8]) {
        let width = 1 << self.chance.below(4);
        let number = match self.chance.below(3) {
            0 => self.chance.below(input.len() + 2) as u64,
            _ => EDGES[self.chance.below(EDGES.len())],
        };
        let at = self.chance.below(input.len());
        let room = input.len() - at;
        let little = number.to_le_bytes();
        let big = number.to_be_bytes();
        let bytes = if self.is_heads() { &little[..width] } else { &big[8 - width..] };
        let count = room.min(width);
        input[at..at + count].copy_from_slice(&bytes[..count]);
    }
}
