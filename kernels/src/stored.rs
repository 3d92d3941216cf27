//! Tensors as stored in files: the crate's only memory map, and the values read from it.
//!
//! Must not know: file formats, layers.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use candle_core::DType;
use half::{bf16, f16};
use memmap2::{Mmap, UncheckedAdvice};

/// A file mapped into memory for reading, or bytes obtained another way.
#[derive(Debug)]
pub struct MappedFile {
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Map(Mmap),
    Owned(Vec<u8>),
}

impl MappedFile {
    /// Maps a file.
    ///
    /// # Errors
    /// The file cannot be opened, or cannot be mapped, for example because it is empty.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(&File::open(path)?)
    }

    /// Maps a file opened for reading.
    ///
    /// # Errors
    /// The file cannot be mapped, for example because it is empty.
    pub fn of(file: &File) -> io::Result<Self> {
        // SAFETY: the map is read-only. Truncating a checkpoint file while it is served can crash
        // the process, as in every server that maps its weights; the bytes are only ever read as
        // floating-point values, for which any bit pattern is valid.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self { bytes: Bytes::Map(map) })
    }

    /// Tells the system that the pages read so far are not needed soon. A later access reads them
    /// from the file again.
    pub fn release_pages(&self) {
        let Bytes::Map(map) = &self.bytes else { return };
        // SAFETY: the map is read-only and backed by the file, so dropped pages are refilled with
        // the same bytes. Failure affects only memory use, so it is ignored.
        let _ = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
    }
}

impl std::ops::Deref for MappedFile {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Map(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// The tensors of a PyTorch pickle file, by name. Nothing in the file is executed.
///
/// # Errors
/// Not such a file.
pub fn read_pickle(path: &Path) -> candle_core::Result<Vec<(String, StoredTensor)>> {
    let tensors = candle_core::pickle::read_all(path)?;
    let stored = tensors.into_iter().map(|(name, tensor)| {
        let shape = tensor.dims().to_vec();
        let values: Vec<f32> = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        let tensor = StoredTensor::of_values(&values, shape).map_err(candle_core::Error::msg)?;
        Ok((name, tensor))
    });
    stored.collect()
}

/// An element type as stored.
pub trait StoredElement: Copy + Default + Send + Sync + 'static {
    /// Converts from float32, rounding to nearest.
    fn from_f32(value: f32) -> Self;
    /// Converts to float32.
    fn to_f32(self) -> f32;
    /// Its dtype.
    const DTYPE: DType;
    /// Reads little-endian bytes.
    fn from_bytes(bytes: &[u8]) -> Self;
}

macro_rules! stored_element {
    ($element:ty, $dtype:expr, $from:expr, $to:expr) => {
        impl StoredElement for $element {
            const DTYPE: DType = $dtype;
            #[inline(always)]
            fn from_f32(value: f32) -> Self {
                $from(value)
            }
            #[inline(always)]
            fn to_f32(self) -> f32 {
                $to(self)
            }
            #[inline(always)]
            fn from_bytes(bytes: &[u8]) -> Self {
                let bytes = bytes.try_into().expect("callers cut pieces of this element's size");
                <$element>::from_le_bytes(bytes)
            }
        }
    };
}

stored_element!(f32, DType::F32, |value| value, |value| value);
stored_element!(bf16, DType::BF16, bf16::from_f32, bf16::to_f32);
stored_element!(f16, DType::F16, f16::from_f32, f16::to_f32);

/// A tensor in a mapped file: little-endian, row-major, not necessarily aligned.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    file: Arc<MappedFile>,
    range: Range<usize>,
    dtype: DType,
    shape: Vec<usize>,
}

impl StoredTensor {
    /// The tensor in bytes `range` of a file.
    ///
    /// # Errors
    /// A message, if the dtype is not a supported floating-point type, or the range does not match
    /// the shape or the file.
    pub fn new(
        file: Arc<MappedFile>,
        range: Range<usize>,
        dtype: DType,
        shape: Vec<usize>,
    ) -> Result<Self, String> {
        if !matches!(dtype, DType::F32 | DType::BF16 | DType::F16) {
            return Err(format!(
                "dtype {dtype:?} is not supported; convert it to F32, BF16 or F16"
            ));
        }
        let elements = shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side));
        let bytes = elements.and_then(|count| count.checked_mul(dtype.size_in_bytes()));
        if bytes != range.end.checked_sub(range.start) || range.end > file.len() {
            return Err(format!(
                "its bytes {range:?} disagree with its shape {shape:?} or the file"
            ));
        }
        Ok(Self { file, range, dtype, shape })
    }

    /// A float32 tensor of these values, backed by memory instead of a file.
    ///
    /// # Errors
    /// A message, if the number of values does not match the shape.
    pub fn of_values(values: &[f32], shape: Vec<usize>) -> Result<Self, String> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let range = 0..bytes.len();
        Self::new(Arc::new(MappedFile { bytes: Bytes::Owned(bytes) }), range, DType::F32, shape)
    }

    /// Some rows of a matrix: `[rows, width]` of `[.., width]`.
    ///
    /// # Panics
    /// If it is not a matrix or has too few rows.
    pub fn rows(&self, rows: Range<usize>) -> Self {
        let &[count, width] = self.shape() else { panic!("{:?} is not a matrix", self.shape) };
        assert!(rows.start <= rows.end && rows.end <= count, "{rows:?} of {count} rows");
        let bytes = width * self.dtype.size_in_bytes();
        let start = self.range.start;
        Self {
            file: self.file.clone(),
            range: start + rows.start * bytes..start + rows.end * bytes,
            dtype: self.dtype,
            shape: vec![rows.len(), width],
        }
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The same elements in another shape.
    ///
    /// # Panics
    /// If the number of elements differs.
    pub fn reshaped(&self, shape: &[usize]) -> Self {
        let count = |shape: &[usize]| shape.iter().product::<usize>();
        assert_eq!(count(shape), count(&self.shape), "{shape:?} of {:?}", self.shape);
        Self { shape: shape.to_vec(), ..self.clone() }
    }

    /// Its dtype.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// All elements as float32.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.shape.iter().product()];
        self.read(0, &mut values);
        values
    }

    /// Reads elements from index `first` on into `to`, converted.
    ///
    /// # Panics
    /// If there are too few.
    pub fn read<E: StoredElement>(&self, first: usize, to: &mut [E]) {
        match self.dtype {
            DType::F32 => self.read_as::<f32, E>(first, to),
            DType::BF16 => self.read_as::<bf16, E>(first, to),
            DType::F16 => self.read_as::<f16, E>(first, to),
            other => unreachable!("{other:?} is refused by `new`"),
        }
    }

    fn read_as<F: StoredElement, E: StoredElement>(&self, first: usize, to: &mut [E]) {
        let size = size_of::<F>();
        let bytes = &self.file[self.range.clone()][first * size..(first + to.len()) * size];
        let from = bytes.chunks_exact(size).map(F::from_bytes);
        to.iter_mut().zip(from).for_each(|(to, from)| *to = E::from_f32(from.to_f32()));
    }
}
