//! Tensors as they lie in files: the one memory map, and numbers read out of it.
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

/// A file mapped into memory for reading, or bytes that were read otherwise.
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
    /// A file that cannot be opened or mapped, such as an empty one.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(&File::open(path)?)
    }

    /// Maps a file that is open for reading.
    ///
    /// # Errors
    /// A file that cannot be mapped, such as an empty one.
    pub fn of(file: &File) -> io::Result<Self> {
        // SAFETY: the map is private and read-only. Somebody who shortens a checkpoint's file
        // while it is served can crash the process, as with every server that maps its weights;
        // the bytes themselves are only ever read as numbers, for which any bits are valid.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self { bytes: Bytes::Map(map) })
    }

    /// Tells the system that the pages read so far are not needed soon. They are read from the
    /// file again if they are.
    pub fn release_pages(&self) {
        let Bytes::Map(map) = &self.bytes else { return };
        // SAFETY: the map is read-only and backed by the file, so dropped pages come back with the
        // same bytes. Failure changes nothing but memory use, so it is ignored.
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

/// The tensors of a file that PyTorch has pickled, by name. Nothing in it is run.
///
/// # Errors
/// A file that is not such.
pub fn read_pickle(path: &Path) -> candle_core::Result<Vec<(String, StoredTensor)>> {
    let tensors = candle_core::pickle::read_all(path)?;
    let stored = |(name, tensor): (String, candle_core::Tensor)| {
        let shape = tensor.dims().to_vec();
        let numbers: Vec<f32> = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        let tensor = StoredTensor::of_numbers(&numbers, shape).map_err(candle_core::Error::msg)?;
        Ok((name, tensor))
    };
    tensors.into_iter().map(stored).collect()
}

/// A number as stored.
pub trait StoredElement: Copy + Default + Send + Sync + 'static {
    /// From float32, rounded to nearest.
    fn from_f32(value: f32) -> Self;
    /// To float32.
    fn to_f32(self) -> f32;
    /// Its dtype.
    const DTYPE: DType;
    /// From little-endian bytes.
    fn from_bytes(bytes: &[u8]) -> Self;
}

macro_rules! stored_number {
    ($number:ty, $dtype:expr, $from:expr, $to:expr) => {
        impl StoredElement for $number {
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
                let bytes = bytes.try_into().expect("callers cut pieces of this number's size");
                <$number>::from_le_bytes(bytes)
            }
        }
    };
}

stored_number!(f32, DType::F32, |value| value, |value| value);
stored_number!(bf16, DType::BF16, bf16::from_f32, bf16::to_f32);
stored_number!(f16, DType::F16, f16::from_f32, f16::to_f32);

/// A tensor in a mapped file: little-endian, row-major, not necessarily aligned.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    file: Arc<MappedFile>,
    range: Range<usize>,
    dtype: DType,
    shape: Vec<usize>,
}

impl StoredTensor {
    /// The tensor at `range` of a file.
    ///
    /// # Errors
    /// A sentence, if the dtype is not a floating-point type that is served, or the range
    /// disagrees with shape or file.
    pub fn new(
        file: Arc<MappedFile>,
        range: Range<usize>,
        dtype: DType,
        shape: Vec<usize>,
    ) -> Result<Self, String> {
        if !matches!(dtype, DType::F32 | DType::BF16 | DType::F16) {
            return Err(format!("dtype {dtype:?} is not served; convert it to F32, BF16 or F16"));
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

    /// Numbers that lie in no file.
    ///
    /// # Errors
    /// A sentence, if there are not as many as the shape says.
    pub fn of_numbers(numbers: &[f32], shape: Vec<usize>) -> Result<Self, String> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let range = 0..bytes.len();
        Self::new(Arc::new(MappedFile { bytes: Bytes::Owned(bytes) }), range, DType::F32, shape)
    }

    /// Some rows of a matrix, `[rows, width]` of its `[.., width]`.
    ///
    /// # Panics
    /// If it is no matrix or has not so many rows.
    pub fn rows(&self, rows: Range<usize>) -> Self {
        let &[count, width] = self.shape() else { panic!("{:?} is no matrix", self.shape) };
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

    /// The same numbers in another shape.
    ///
    /// # Panics
    /// If it has another number of them.
    pub fn reshaped(&self, shape: &[usize]) -> Self {
        let count = |shape: &[usize]| shape.iter().product::<usize>();
        assert_eq!(count(shape), count(&self.shape), "{shape:?} of {:?}", self.shape);
        Self { shape: shape.to_vec(), ..self.clone() }
    }

    /// Its dtype.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// All numbers as float32.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut numbers = vec![0.0; self.shape.iter().product()];
        self.read(0, &mut numbers);
        numbers
    }

    /// Reads numbers from the `first` on into `to`, converted.
    ///
    /// # Panics
    /// If there are not so many.
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
