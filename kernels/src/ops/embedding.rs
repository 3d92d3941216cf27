//! Rows of an embedding table by id. On the CPU the table stays in the mapped file: only rows that
//! texts use are ever read into memory.

use candle_core::{DType, Device, Result, Tensor, bail};

use crate::stored::StoredTensor;

/// A table `[rows, width]`.
#[derive(Debug)]
pub struct Embedding {
    table: Table,
    rows: usize,
    width: usize,
}

#[derive(Debug)]
enum Table {
    Stored(StoredTensor),
    Plain(Tensor),
}

impl Embedding {
    /// A table as stored.
    ///
    /// # Errors
    /// A tensor that is not a matrix, or a failure of the device.
    pub fn new(table: StoredTensor, device: &Device) -> Result<Self> {
        let &[rows, width] = table.shape() else { bail!("an embedding table has two dimensions") };
        let table = if device.is_cpu() {
            Table::Stored(table)
        } else {
            Table::Plain(Tensor::from_vec(table.to_f32(), (rows, width), device)?)
        };
        Ok(Self { table, rows, width })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The rows of `ids`: `[n, width]`, float32.
    ///
    /// # Errors
    /// An id beyond the table, or a failure of the device.
    pub fn rows_of(&self, ids: &[u32]) -> Result<Tensor> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.rows) {
            bail!("id {id} is beyond an embedding table of {} rows", self.rows);
        }
        match &self.table {
            Table::Plain(table) => {
                table.index_select(&Tensor::new(ids, table.device())?, 0)?.to_dtype(DType::F32)
            }
            Table::Stored(table) => {
                let mut out = vec![0.0f32; ids.len() * self.width];
                for (id, row) in ids.iter().zip(out.chunks_exact_mut(self.width)) {
                    table.read(*id as usize * self.width, row);
                }
                Tensor::from_vec(out, (ids.len(), self.width), &Device::Cpu)
            }
        }
    }
}
