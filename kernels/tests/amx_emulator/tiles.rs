//! The tile state of one thread: configuration and contents, loads and stores.
//! Must not know: machine code, products, signals.

/// One tile: 16 rows of 64 bytes, here as 16 dwords. Rows and columns beyond the configured
/// ones are always zero.
pub type Tile = [[u32; 16]; 16];

const TILES: usize = 8;
const MOST_ROWS: usize = 16;
const MOST_BYTES: usize = 64;

/// The exception that the hardware would raise, and why.
#[derive(Debug)]
#[allow(dead_code, reason = "the texts are read by the derived Debug alone")]
pub enum Fault {
    /// #UD.
    InvalidOpcode(&'static str),
    /// #GP.
    GeneralProtection(&'static str),
}

/// The configured size of a tile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    pub rows: usize,
    /// The width of a row in bytes.
    pub bytes: usize,
}

impl Shape {
    const UNUSED: Shape = Shape { rows: 0, bytes: 0 };
}

/// The AMX state of a thread.
pub struct Tiles {
    configured: bool,
    /// Where an interrupted load or store resumes; programs set zero.
    start_row: usize,
    shapes: [Shape; TILES],
    contents: [Tile; TILES],
}

impl Tiles {
    /// The state before LDTILECFG and after TILERELEASE.
    pub const INITIAL: Tiles = Tiles {
        configured: false,
        start_row: 0,
        shapes: [Shape::UNUSED; TILES],
        contents: [[[0; 16]; 16]; TILES],
    };

    /// LDTILECFG: applies the configuration in `image` and clears all tiles.
    pub fn configure(&mut self, image: &[u8; 64]) -> Result<(), Fault> {
        let bad = |why| Err(Fault::GeneralProtection(why));
        match image[0] {
            0 => {
                *self = Tiles::INITIAL;
                return Ok(());
            }
            1 => {}
            _ => return bad("an unknown palette"),
        }
        if [&image[2..16], &image[32..48], &image[56..64]].iter().any(|r| **r != [0; 16][..r.len()])
        {
            return bad("a reserved byte of the configuration is not zero");
        }
        let mut shapes = [Shape::UNUSED; TILES];
        for (tile, shape) in shapes.iter_mut().enumerate() {
            let low = 16 + 2 * tile;
            let bytes = u16::from_le_bytes([image[low], image[low + 1]]);
            *shape = Shape { rows: image[48 + tile].into(), bytes: bytes.into() };
            if shape.rows > MOST_ROWS || shape.bytes > MOST_BYTES {
                return bad("a tile larger than 16 rows of 64 bytes");
            }
            if (shape.rows == 0) != (shape.bytes == 0) {
                return bad("a tile with rows but no columns, or with columns but no rows");
            }
        }
        let start_row = image[1].into();
        *self = Tiles { configured: true, start_row, shapes, ..Tiles::INITIAL };
        Ok(())
    }

    /// STTILECFG: the configuration in the format that LDTILECFG takes.
    pub fn configuration(&self) -> [u8; 64] {
        let mut image = [0; 64];
        image[0] = self.configured.into();
        // There are at most 16 rows, and the start row came from one byte.
        image[1] = self.start_row as u8;
        for (tile, shape) in self.shapes.iter().enumerate() {
            image[16 + 2 * tile] = shape.bytes as u8;
            image[48 + tile] = shape.rows as u8;
        }
        image
    }

    /// TILEZERO.
    pub fn zero(&mut self, tile: usize) -> Result<(), Fault> {
        self.used_shape(tile)?;
        self.contents[tile] = [[0; 16]; 16];
        self.start_row = 0;
        Ok(())
    }

    /// TILELOADD: row r comes from `start + r * stride`.
    ///
    /// # Safety
    ///
    /// The rows' bytes must be readable.
    pub unsafe fn load(&mut self, tile: usize, start: u64, stride: u64) -> Result<(), Fault> {
        let shape = self.shape_to_move(tile)?;
        let contents = &mut self.contents[tile];
        contents[self.start_row..].fill([0; 16]);
        for (row, number) in contents[self.start_row..shape.rows].iter_mut().zip(self.start_row..) {
            let from = start.wrapping_add(stride.wrapping_mul(number as u64)) as *const u8;
            // SAFETY: the caller vouches for the source; a row has room for 64 bytes, the largest
            // shape.
            unsafe { from.copy_to_nonoverlapping(row.as_mut_ptr().cast(), shape.bytes) };
        }
        self.start_row = 0;
        Ok(())
    }

    /// TILESTORED: row r goes to `start + r * stride`.
    ///
    /// # Safety
    ///
    /// The rows' bytes must be writable, and no Rust reference may rely on their contents.
    pub unsafe fn store(&mut self, tile: usize, start: u64, stride: u64) -> Result<(), Fault> {
        let shape = self.shape_to_move(tile)?;
        let rows = &self.contents[tile][self.start_row..shape.rows];
        for (row, number) in rows.iter().zip(self.start_row..) {
            let to = start.wrapping_add(stride.wrapping_mul(number as u64)) as *mut u8;
            // SAFETY: the caller vouches for the target; a row holds 64 bytes, the largest shape.
            unsafe { to.copy_from_nonoverlapping(row.as_ptr().cast(), shape.bytes) };
        }
        self.start_row = 0;
        Ok(())
    }

    /// The tiles of a product `into += left * right`, after checking that their shapes fit.
    pub fn for_product(&self, into: usize, left: usize, right: usize) -> Result<[&Tile; 3], Fault> {
        if into == left || into == right || left == right {
            return Err(Fault::InvalidOpcode("the tiles of a product are not different"));
        }
        let tiles = [into, left, right];
        for tile in tiles {
            self.whole_dwords(tile)?;
        }
        let [sums, lefts, rights] = tiles.map(|tile| self.shapes[tile]);
        if sums.rows != lefts.rows || sums.bytes != rights.bytes || lefts.bytes / 4 != rights.rows {
            return Err(Fault::InvalidOpcode("the shapes of a product's tiles do not fit"));
        }
        Ok(tiles.map(|tile| &self.contents[tile]))
    }

    /// The configured size of a tile.
    pub fn shape(&self, tile: usize) -> Shape {
        self.shapes[tile]
    }

    /// Completes a product: replaces a tile, keeping what is outside its shape zero.
    pub fn replace(&mut self, tile: usize, sums: &Tile) {
        let shape = self.shapes[tile];
        let contents = &mut self.contents[tile];
        *contents = [[0; 16]; 16];
        for (row, sums) in contents.iter_mut().zip(sums).take(shape.rows) {
            row[..shape.bytes / 4].copy_from_slice(&sums[..shape.bytes / 4]);
        }
        self.start_row = 0;
    }

    fn shape_to_move(&self, tile: usize) -> Result<Shape, Fault> {
        let shape = self.whole_dwords(tile)?;
        if self.start_row >= shape.rows {
            return Err(Fault::InvalidOpcode("the start row is beyond the tile"));
        }
        Ok(shape)
    }

    fn whole_dwords(&self, tile: usize) -> Result<Shape, Fault> {
        let shape = self.used_shape(tile)?;
        if !shape.bytes.is_multiple_of(4) {
            return Err(Fault::InvalidOpcode("a tile's rows are not whole dwords"));
        }
        Ok(shape)
    }

    fn used_shape(&self, tile: usize) -> Result<Shape, Fault> {
        if !self.configured {
            return Err(Fault::InvalidOpcode("tiles are not configured"));
        }
        if self.shapes[tile] == Shape::UNUSED {
            return Err(Fault::InvalidOpcode("the tile has no shape in the configuration"));
        }
        Ok(self.shapes[tile])
    }
}
