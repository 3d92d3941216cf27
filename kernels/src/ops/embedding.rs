//! Embedding lookup. On the CPU the table stays in the mapped file: only rows that texts use are
//! ever read into memory.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::rows::Rows;
use super::{Backend, on_device};
use crate::cpu::thread_pool;
use crate::cuda::launch;
use crate::reference;
use crate::spec::Corner;
use crate::stored::StoredTensor;

/// An embedding table `[rows, width]`.
#[derive(Debug)]
pub struct Embedding {
    table: Table,
    rows: usize,
    width: usize,
}

#[derive(Debug)]
enum Table {
    /// On the CPU.
    Stored(StoredTensor),
    /// On any other device.
    Tensor(Tensor),
}

impl Embedding {
    /// A table from a stored tensor.
    ///
    /// # Errors
    /// The tensor is not a matrix, or a device failure.
    pub fn new(table: StoredTensor, device: &Device) -> Result<Self> {
        let &[rows, width] = table.shape() else {
            bail!("embedding: the table has shape {:?}, expected two dimensions", table.shape());
        };
        let table = if device.is_cpu() {
            Table::Stored(table)
        } else {
            let rows_of_table: Vec<_> = (0..rows).map(|row| Some((0, row))).collect();
            Table::Tensor(on_device(&[&table], &rows_of_table, width, table.dtype(), device)?)
        };
        Ok(Self { table, rows, width })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The rows of `ids`: `[n, width]`.
    ///
    /// # Errors
    /// An id beyond the table, or a device failure.
    pub fn rows_of(&self, ids: &[u32]) -> Result<Rows> {
        self.check(ids)?;
        match &self.table {
            Table::Stored(table) => {
                let mut out = Rows::cpu(ids.len(), self.width);
                each(ids, self.width, out.elements_mut()?, |id, row| {
                    table.read(id as usize * self.width, row);
                });
                Ok(out)
            }
            Table::Tensor(table) => Ok(Rows::on_device(match Backend::of(table.device()) {
                Backend::Cuda => launch::embedding::gather(table, ids)?,
                Backend::Cpu | Backend::Reference => reference::embedding::gather(table, ids)?,
            })),
        }
    }

    /// Adds the table rows of `ids` to `rows`.
    ///
    /// # Errors
    /// An id beyond the table, mismatched shapes, or a device failure.
    pub fn add_rows_of(&self, ids: &[u32], rows: Rows) -> Result<Rows> {
        self.check(ids)?;
        if rows.shape()? != [ids.len(), self.width] {
            bail!(
                "embedding: rows have shape {:?}, expected [{}, {}]",
                rows.shape()?,
                ids.len(),
                self.width
            );
        }
        let mut rows = rows;
        match &self.table {
            Table::Stored(table) => {
                each(ids, self.width, rows.elements_mut()?, |id, row| {
                    ADDED.with_borrow_mut(|added| {
                        added.resize(row.len(), 0.0);
                        table.read(id as usize * self.width, added);
                        row.iter_mut().zip(&*added).for_each(|(to, value)| *to += value);
                    });
                });
                Ok(rows)
            }
            Table::Tensor(table) => Ok(Rows::on_device(match rows.backend() {
                Backend::Cuda => {
                    let rows = rows.device_tensor()?.to_dtype(DType::F32)?;
                    launch::embedding::add(table, ids, &rows, true)?;
                    rows
                }
                Backend::Cpu | Backend::Reference => {
                    (rows.device_tensor()? + reference::embedding::gather(table, ids)?)?
                }
            })),
        }
    }

    /// Adds to each row a weighted sum of four table rows: interpolation in a table that holds the
    /// points of a grid.
    ///
    /// # Errors
    /// An id beyond the table, mismatched shapes, or a device failure.
    pub fn add_weighted(&self, corners: &[[Corner; 4]], rows: Rows) -> Result<Rows> {
        let ids: Vec<u32> = corners.iter().flatten().map(|corner| corner.row).collect();
        self.check(&ids)?;
        if rows.shape()? != [corners.len(), self.width] {
            bail!(
                "embedding: rows have shape {:?}, expected [{}, {}]",
                rows.shape()?,
                corners.len(),
                self.width
            );
        }
        let mut rows = rows;
        match &self.table {
            Table::Stored(table) => {
                each(corners, self.width, rows.elements_mut()?, |corners, row| {
                    ADDED.with_borrow_mut(|added| {
                        added.resize(2 * row.len(), 0.0);
                        let (sum, one) = added.split_at_mut(row.len());
                        sum.fill(0.0);
                        for Corner { row: id, weight } in corners {
                            table.read(id as usize * self.width, one);
                            sum.iter_mut()
                                .zip(&*one)
                                .for_each(|(sum, value)| *sum += value * weight);
                        }
                        row.iter_mut().zip(&*sum).for_each(|(to, value)| *to += value);
                    });
                });
                Ok(rows)
            }
            Table::Tensor(table) => Ok(Rows::on_device(match rows.backend() {
                Backend::Cuda => {
                    let rows = rows.device_tensor()?.to_dtype(DType::F32)?;
                    launch::embedding::add_weighted(table, corners, &rows)?;
                    rows
                }
                Backend::Cpu | Backend::Reference => {
                    (rows.device_tensor()? + reference::embedding::weighted(table, corners)?)?
                }
            })),
        }
    }

    fn check(&self, ids: &[u32]) -> Result<()> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.rows) {
            bail!("embedding: id {id} is out of range for {} rows", self.rows);
        }
        Ok(())
    }
}

thread_local! {
    /// Scratch memory for the rows to add, reused between calls.
    static ADDED: std::cell::RefCell<Vec<f32>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Calls `work` with every id and its row, on all threads if there are many.
fn each<I: Copy + Sync>(
    ids: &[I],
    width: usize,
    rows: &mut [f32],
    work: impl Fn(I, &mut [f32]) + Sync,
) {
    /// Rows per task.
    const TASK: usize = 64;
    thread_pool::for_each_part(rows, TASK * width, |task, rows| {
        let rows = rows.chunks_exact_mut(width).zip(&ids[task * TASK..]);
        rows.for_each(|(row, id)| work(*id, row));
    });
}
