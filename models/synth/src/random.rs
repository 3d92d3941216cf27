//! Seeded pseudo-random numbers that are the same on every machine: integer arithmetic and exact
//! conversions only.

/// A pseudo-random number generator.
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator for a seed and a name.
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a over the name.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self { state: hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) }
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of mean 0 and standard deviation 1, nearly normally distributed: the scaled sum of
    /// four uniform ones.
    pub fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: i32 = (0..4).map(|part| (bits >> (16 * part) & 0xffff) as i32).sum();
        // The sum of four uniform integers in 0..65536 has mean 131070 and variance 65536^2 / 3.
        (sum - 131_070) as f32 * (1.732_050_8 / 65_536.0)
    }
}
