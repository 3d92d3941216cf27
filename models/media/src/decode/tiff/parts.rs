//! The strips or tiles of a TIFF file: checks that they are no more than the image needs, and
//! decodes JPEG-compressed ones, each of which is a JPEG file except for the tables they share.
//!
//! Must not know: colours.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use tiff::tags::Tag;

use super::{File, JPEG, Problem, Size, jpeg, tag};

/// Compression: none.
const RAW: u32 = 1;
/// Planar configuration: a plane per component.
const PLANES: u32 = 2;
/// Maximum bytes of shared tables; all possible ones together take less.
const TABLES_MAX: usize = 8 << 10;
/// Fewest rows of a JPEG-compressed strip if there are several: the rows of a block.
const ROWS_MIN: usize = 8;

const CUT_OFF: &str = "it is cut off";

/// The strips or tiles of a file.
pub(super) struct TiffParts {
    image: Size,
    /// Size of a part; those at the right and bottom are cropped to the image.
    part: Size,
    strips: bool,
    /// Samples per pixel of a part.
    layers: usize,
    /// Number of planes: one, or one per component.
    planes: usize,
    /// Offset and bytes of each part.
    extents: Vec<(u64, u64)>,
    compression: u32,
}

/// Number of parts across and down.
struct Grid {
    columns: usize,
    rows: usize,
}

impl TiffParts {
    /// The parts of a file.
    pub(super) fn of(file: &mut File<'_>, image: Size) -> Result<Self, Problem> {
        let number = |file: &mut File<'_>, one, default| Ok(tag(file, one)?.unwrap_or(default));
        let compression = number(file, Tag::Compression, RAW)?;
        let samples = number(file, Tag::SamplesPerPixel, 1)? as usize;
        let apart = samples > 1 && number(file, Tag::PlanarConfiguration, 1)? == PLANES;
        let tiles = file.find_tag(Tag::TileOffsets).map_err(Problem::damaged)?.is_some();
        let mut list = |one: Tag| -> Result<Vec<u64>, Problem> {
            Ok(file.find_tag_unsigned_vec(one).map_err(Problem::damaged)?.unwrap_or_default())
        };
        let (starts, sizes) = match tiles {
            true => (list(Tag::TileOffsets)?, list(Tag::TileByteCounts)?),
            false => (list(Tag::StripOffsets)?, list(Tag::StripByteCounts)?),
        };
        let (columns, rows) = file.chunk_dimensions();
        let (columns, rows) = (columns as usize, rows as usize);
        let part = match tiles {
            true => Size::new(columns, rows),
            false => Size::new(image.width, rows.min(image.height)),
        };
        if part.width == 0 || part.height == 0 {
            return Err(Problem::damaged("its parts are empty"));
        }
        let (layers, planes) = if apart { (1, samples) } else { (samples, 1) };
        let extents = starts.into_iter().zip(sizes).collect();
        Ok(Self { image, part, strips: !tiles, layers, planes, extents, compression })
    }

    /// Whether they are JPEG-compressed.
    pub(super) fn are_jpeg(&self) -> bool {
        self.compression == JPEG
    }

    fn grid(&self) -> Grid {
        let Self { image, part, .. } = self;
        Grid { columns: image.width.div_ceil(part.width), rows: image.height.div_ceil(part.height) }
    }

    /// Upper bound on the bytes that decoding a JPEG-compressed part holds.
    pub(super) fn needs(&self) -> usize {
        self.part.pixels() * self.layers + jpeg::coefficients(self.part, self.layers)
    }

    /// Checks that the work of decoding all parts is in proportion to an image of `image` bytes:
    /// parts may be larger than the image, and many may share an offset, whose bytes are decoded
    /// each time.
    pub(super) fn check(
        &self,
        file: usize,
        image: usize,
        pixels_max: usize,
    ) -> Result<(), Problem> {
        let grid = self.grid();
        let width = grid.columns.saturating_mul(self.part.width);
        let height = grid.rows.saturating_mul(self.part.height);
        if width.saturating_mul(height) > pixels_max.saturating_mul(2) {
            return Err(Problem::damaged("its tiles are too large for the image"));
        }
        let bytes = self.extents.iter().fold(0u64, |sum, (_, size)| sum.saturating_add(*size));
        let most = match self.compression {
            RAW => return Ok(()),
            JPEG => file,
            _ => file.saturating_add(image),
        };
        if bytes > most as u64 {
            return Err(Problem::damaged("its strips or tiles have more bytes than the file"));
        }
        if !self.are_jpeg() {
            return Ok(());
        }
        if self.strips && grid.rows > 1 && self.part.height < ROWS_MIN {
            return Err(Problem::damaged("its JPEG strips do not consist of whole blocks"));
        }
        let mut ends = self.extents.iter().map(|(start, size)| start.saturating_add(*size));
        let count = grid.columns * grid.rows * self.planes;
        if self.extents.len() < count || ends.any(|end| end > file as u64) {
            return Err(Problem::damaged(CUT_OFF));
        }
        Ok(())
    }

    /// The samples of a JPEG-compressed image, `[height][width][samples]`.
    pub(super) fn read_jpeg(&self, file: &mut File<'_>, bytes: &[u8]) -> Result<Vec<u8>, Problem> {
        let tables = match file.find_tag(Tag::JPEGTables).map_err(Problem::damaged)? {
            Some(tables) => tables.into_u8_vec().map_err(Problem::damaged)?,
            None => Vec::new(),
        };
        if tables.len() > TABLES_MAX {
            return Err(Problem::damaged("its tables are too large"));
        }
        let Self { image, part: size, .. } = *self;
        let grid = self.grid();
        let parts = grid.columns * grid.rows;
        let samples = self.layers * self.planes;
        let mut numbers = vec![0; image.pixels() * samples];
        let mut scans = jpeg::SCANS_MAX;
        for (at, &(start, length)) in self.extents.iter().take(parts * self.planes).enumerate() {
            let stored = &bytes[start as usize..][..length as usize];
            let whole = with_tables(&tables, stored)?;
            // One scan per component is usual; any more, of all parts together, are limited.
            let more = jpeg::scans(&whole).count.saturating_sub(self.layers);
            scans =
                scans.checked_sub(more).ok_or_else(|| Problem::damaged("it has too many scans"))?;
            let (plane, at) = (at / parts, at % parts);
            let (left, top) = (at % grid.columns * size.width, at / grid.columns * size.height);
            let part = jpeg::stored(&whole, size.width, &self.rows(top), self.layers)?;
            let columns = size.width.min(image.width - left);
            let rows = size.height.min(image.height - top);
            let lines = part.chunks_exact(size.width * self.layers).take(rows);
            for (row, line) in lines.enumerate() {
                let to = ((top + row) * image.width + left) * samples;
                let line = &line[..columns * self.layers];
                let to = &mut numbers[to..to + columns * samples];
                if self.planes == 1 {
                    to.copy_from_slice(line);
                } else {
                    let every = to.iter_mut().skip(plane).step_by(samples);
                    every.zip(line).for_each(|(to, number)| *to = *number);
                }
            }
        }
        Ok(numbers)
    }

    /// The number of rows that a part at row `top` may have: the last strip may be shorter.
    fn rows(&self, top: usize) -> RangeInclusive<usize> {
        let height = self.part.height;
        let least = if self.strips { height.min(self.image.height - top) } else { height };
        least..=height
    }
}

/// A part as a JPEG file: the shared tables without their end marker, then the part without its
/// start marker.
fn with_tables<'a>(tables: &[u8], stored: &'a [u8]) -> Result<Cow<'a, [u8]>, Problem> {
    if tables.is_empty() {
        return Ok(stored.into());
    }
    let stored = stored.strip_prefix(&[0xff, 0xd8]).ok_or_else(|| Problem::damaged(CUT_OFF))?;
    let tables = tables.strip_suffix(&[0xff, 0xd9]).unwrap_or(tables);
    Ok([tables, stored].concat().into())
}
