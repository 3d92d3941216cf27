//! The machine code of AMX instructions: which one it is, its tiles and its memory operand.
//! Must not know: tile contents, signals, Linux.

use super::Registers;

/// One AMX instruction with its operands; tiles by number, 0 to 7.
#[derive(Debug)]
pub enum Instruction {
    /// LDTILECFG.
    LoadConfiguration(Address),
    /// STTILECFG.
    StoreConfiguration(Address),
    /// TILERELEASE.
    Release,
    /// TILEZERO.
    Zero(usize),
    /// TILELOADD, and TILELOADDT1, which differs only by a cache hint.
    Load(usize, Address),
    /// TILESTORED.
    Store(usize, Address),
    /// TDPBF16PS and the four variants of TDPB[SU][SU]D.
    MicroKernel(MicroKernel),
}

/// `into += left * right`.
#[derive(Debug)]
pub struct MicroKernel {
    pub numbers: Numbers,
    pub into: usize,
    pub left: usize,
    pub right: usize,
}

/// Element type of the dwords of both operands of a tile product.
#[derive(Debug, Clone, Copy)]
pub enum Numbers {
    /// Two bf16.
    Bf16,
    /// Four bytes; each operand is signed or unsigned.
    Bytes { left_signed: bool, right_signed: bool },
}

/// A memory operand.
#[derive(Debug)]
pub struct Address {
    base: Base,
    /// A register's number and how far its value is shifted left.
    index: Option<(usize, u32)>,
    displacement: i32,
}

#[derive(Debug)]
enum Base {
    None,
    Register(usize),
    NextInstruction,
}

impl Address {
    /// The address as most instructions interpret it.
    pub fn linear(&self, registers: &Registers, next: u64) -> u64 {
        let (start, indexed) = self.start_and_stride(registers, next);
        start.wrapping_add(indexed)
    }

    /// The operand of a tile load or store: the address of row 0, and the stride between rows.
    pub fn start_and_stride(&self, registers: &Registers, next: u64) -> (u64, u64) {
        let base = match self.base {
            Base::None => 0,
            Base::Register(number) => registers[number],
            Base::NextInstruction => next,
        };
        let stride = self.index.map_or(0, |(number, shift)| registers[number] << shift);
        (base.wrapping_add_signed(self.displacement.into()), stride)
    }
}

/// The AMX instruction that `code` starts with, and its length in bytes; `None` if it starts with
/// anything else. Reads no byte beyond the instruction.
pub fn decode(code: impl Iterator<Item = u8>) -> Option<(Instruction, u64)> {
    let mut length = 0;
    let mut code = code.inspect(|_| length += 1);
    let vex = Vex::read(&mut code)?;
    let opcode = code.next()?;
    let modrm = ModRm::from(code.next()?);
    let instruction = match opcode {
        0x49 => of_configuration(&vex, &modrm, &mut code),
        0x4b => of_memory(&vex, &modrm, &mut code),
        0x5c | 0x5e => product(opcode, &vex, &modrm).map(Instruction::MicroKernel),
        _ => None,
    }?;
    drop(code);
    Some((instruction, length))
}

fn of_configuration(
    vex: &Vex,
    modrm: &ModRm,
    code: &mut impl Iterator<Item = u8>,
) -> Option<Instruction> {
    if vex.extra_register != 0 {
        return None;
    }
    match (vex.prefix, modrm.is_register(), modrm.reg, modrm.rm) {
        (Prefix::None, true, 0, 0) => Some(Instruction::Release),
        (Prefix::RepNe, true, _, 0) => Some(Instruction::Zero(vex.tile_of_reg(modrm)?)),
        (Prefix::None, false, 0, _) => {
            Some(Instruction::LoadConfiguration(address(vex, modrm, code)?))
        }
        (Prefix::OperandSize, false, 0, _) => {
            Some(Instruction::StoreConfiguration(address(vex, modrm, code)?))
        }
        _ => None,
    }
}

fn of_memory(vex: &Vex, modrm: &ModRm, code: &mut impl Iterator<Item = u8>) -> Option<Instruction> {
    // Only the form with an index can specify a stride; the other forms are invalid opcodes.
    if vex.extra_register != 0 || modrm.is_register() || modrm.rm != ModRm::SIB_FOLLOWS {
        return None;
    }
    let tile = vex.tile_of_reg(modrm)?;
    match vex.prefix {
        Prefix::RepNe | Prefix::OperandSize => {
            Some(Instruction::Load(tile, address(vex, modrm, code)?))
        }
        Prefix::Rep => Some(Instruction::Store(tile, address(vex, modrm, code)?)),
        Prefix::None => None,
    }
}

fn product(opcode: u8, vex: &Vex, modrm: &ModRm) -> Option<MicroKernel> {
    let bytes = |left_signed, right_signed| Numbers::Bytes { left_signed, right_signed };
    let numbers = match (opcode, vex.prefix) {
        (0x5c, Prefix::Rep) => Numbers::Bf16,
        (0x5e, Prefix::RepNe) => bytes(true, true),
        (0x5e, Prefix::Rep) => bytes(true, false),
        (0x5e, Prefix::OperandSize) => bytes(false, true),
        (0x5e, Prefix::None) => bytes(false, false),
        _ => return None,
    };
    // There are eight tiles: a register number above seven is an invalid opcode.
    if !modrm.is_register() || vex.extend_base != 0 || vex.extra_register > 7 {
        return None;
    }
    let into = vex.tile_of_reg(modrm)?;
    Some(MicroKernel { numbers, into, left: modrm.rm, right: vex.extra_register })
}

/// The memory operand that follows the ModRM byte (Intel's SDM, volume 2, section 2.1.5).
fn address(vex: &Vex, modrm: &ModRm, code: &mut impl Iterator<Item = u8>) -> Option<Address> {
    // In mode 0, the number of RBP and R13 as a base means no base.
    const NO_BASE: usize = 5;
    // The number of RSP; R12, which shares its low bits, can be an index.
    const NO_INDEX: usize = 4;
    let mut index = None;
    let mut base = Base::Register(modrm.rm + vex.extend_base);
    let mut has_no_base = modrm.mode == 0 && modrm.rm == NO_BASE;
    if has_no_base {
        base = Base::NextInstruction;
    } else if modrm.rm == ModRm::SIB_FOLLOWS {
        let sib = usize::from(code.next()?);
        let number = (sib >> 3 & 7) + vex.extend_index;
        index = (number != NO_INDEX).then_some((number, (sib >> 6) as u32));
        base = Base::Register((sib & 7) + vex.extend_base);
        has_no_base = modrm.mode == 0 && sib & 7 == NO_BASE;
        if has_no_base {
            base = Base::None;
        }
    }
    let displacement = match modrm.mode {
        1 => i32::from(code.next()? as i8),
        2 => long_displacement(code)?,
        _ if has_no_base => long_displacement(code)?,
        _ => 0,
    };
    Some(Address { base, index, displacement })
}

fn long_displacement(code: &mut impl Iterator<Item = u8>) -> Option<i32> {
    Some(i32::from_le_bytes([code.next()?, code.next()?, code.next()?, code.next()?]))
}

/// The legacy prefix that a VEX prefix encodes.
#[derive(Clone, Copy)]
enum Prefix {
    None,
    OperandSize,
    Rep,
    RepNe,
}

/// A three-byte VEX prefix; the two-byte form has no room for AMX's opcode map.
struct Vex {
    prefix: Prefix,
    /// Added to a three-bit register number: eight or zero.
    extend_reg: usize,
    extend_index: usize,
    extend_base: usize,
    /// The register that the prefix itself encodes; zero if there is none.
    extra_register: usize,
}

impl Vex {
    /// `None` unless the prefix is of the kind that AMX uses: map 0F38, W and L zero.
    fn read(code: &mut impl Iterator<Item = u8>) -> Option<Self> {
        const LONG_FORM: u8 = 0xc4;
        const MAP: u8 = 0b1_1111;
        const MAP_0F38: u8 = 2;
        const WIDE_OR_256_BITS: u8 = 0x84;
        if code.next()? != LONG_FORM {
            return None;
        }
        let (first, second) = (code.next()?, code.next()?);
        if first & MAP != MAP_0F38 || second & WIDE_OR_256_BITS != 0 {
            return None;
        }
        // All register bits of the prefix are stored inverted.
        let extend = |bit: u8| if first & bit == 0 { 8 } else { 0 };
        let prefix = match second & 3 {
            0 => Prefix::None,
            1 => Prefix::OperandSize,
            2 => Prefix::Rep,
            _ => Prefix::RepNe,
        };
        Some(Vex {
            prefix,
            extend_reg: extend(0x80),
            extend_index: extend(0x40),
            extend_base: extend(0x20),
            extra_register: usize::from(!second >> 3 & 15),
        })
    }

    fn tile_of_reg(&self, modrm: &ModRm) -> Option<usize> {
        (self.extend_reg == 0).then_some(modrm.reg)
    }
}

struct ModRm {
    mode: u8,
    reg: usize,
    rm: usize,
}

impl ModRm {
    const SIB_FOLLOWS: usize = 4;

    fn is_register(&self) -> bool {
        self.mode == 3
    }
}

impl From<u8> for ModRm {
    fn from(byte: u8) -> Self {
        ModRm { mode: byte >> 6, reg: usize::from(byte >> 3 & 7), rm: usize::from(byte & 7) }
    }
}
