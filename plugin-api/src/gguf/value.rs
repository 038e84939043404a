//! Values of the metadata.

use std::fmt;

use super::reader::{Fault, Reader};

/// A value. Files have many types of numbers, which become two here.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number of any type.
    Integer(i128),
    /// A number with a fraction.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// Text.
    Text(String),
    /// Numbers of any type.
    Numbers(Vec<f64>),
    /// Texts.
    Texts(Vec<String>),
}

/// GGUF's numbers for the types that are not plain numbers.
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const LIST: u32 = 9;
/// Bytes of a number or flag, by the number of its type. None: the type is no number and no flag.
const SIZES: [Option<u64>; 13] = [
    Some(1),
    Some(1),
    Some(2),
    Some(2),
    Some(4),
    Some(4),
    Some(4),
    Some(1),
    None,
    None,
    Some(8),
    Some(8),
    Some(8),
];
/// Bytes of the shortest text: those of its length.
const LEAST_TEXT_BYTES: u64 = 8;

impl Value {
    /// Reads a type and a value of it.
    pub(super) fn read(reader: &mut Reader) -> Result<Self, Fault> {
        match reader.u32()? {
            TEXT => reader.text().map(Self::Text),
            LIST => Self::read_list(reader),
            kind => Self::read_scalar(reader, kind),
        }
    }

    fn read_list(reader: &mut Reader) -> Result<Self, Fault> {
        let kind = reader.u32()?;
        if kind == TEXT {
            let count = reader.count("texts", LEAST_TEXT_BYTES)?;
            let texts: Result<_, _> = (0..count).map(|_| reader.text()).collect();
            return texts.map(Self::Texts);
        }
        let bytes = SIZES.get(kind as usize).copied().flatten();
        let bytes = bytes.ok_or_else(|| unknown(kind))?;
        let count = reader.count("numbers", bytes)?;
        let number = |_| {
            let value = Self::read_scalar(reader, kind)?;
            Ok(value
                .number()
                .unwrap_or(f64::from(value == Self::Bool(true))))
        };
        let numbers: Result<_, _> = (0..count).map(number).collect();
        numbers.map(Self::Numbers)
    }

    fn read_scalar(reader: &mut Reader, kind: u32) -> Result<Self, Fault> {
        Ok(match kind {
            0 => Self::Integer(u8::from_le_bytes(reader.bytes()?).into()),
            1 => Self::Integer(i8::from_le_bytes(reader.bytes()?).into()),
            2 => Self::Integer(u16::from_le_bytes(reader.bytes()?).into()),
            3 => Self::Integer(i16::from_le_bytes(reader.bytes()?).into()),
            4 => Self::Integer(reader.u32()?.into()),
            5 => Self::Integer(i32::from_le_bytes(reader.bytes()?).into()),
            6 => Self::Float(f32::from_le_bytes(reader.bytes()?).into()),
            BOOL => Self::Bool(reader.bytes::<1>()? != [0]),
            10 => Self::Integer(reader.u64()?.into()),
            11 => Self::Integer(i64::from_le_bytes(reader.bytes()?).into()),
            12 => Self::Float(f64::from_le_bytes(reader.bytes()?)),
            kind => return Err(unknown(kind)),
        })
    }

    /// A text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A number of any type.
    pub fn number(&self) -> Option<f64> {
        match *self {
            Self::Integer(number) => Some(number as f64),
            Self::Float(number) => Some(number),
            _ => None,
        }
    }

    /// A whole number that is not negative.
    pub fn whole(&self) -> Option<u64> {
        match *self {
            Self::Integer(number) => number.try_into().ok(),
            _ => None,
        }
    }

    /// Yes or no.
    pub fn flag(&self) -> Option<bool> {
        match *self {
            Self::Bool(flag) => Some(flag),
            _ => None,
        }
    }

    /// A list of texts.
    pub fn texts(&self) -> Option<&[String]> {
        match self {
            Self::Texts(texts) => Some(texts),
            _ => None,
        }
    }

    /// A list of numbers.
    pub fn numbers(&self) -> Option<&[f64]> {
        match self {
            Self::Numbers(numbers) => Some(numbers),
            _ => None,
        }
    }
}

/// A short form, for error messages.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Bool(flag) => flag.fmt(f),
            Self::Text(_) => f.write_str("a text"),
            Self::Numbers(_) | Self::Texts(_) => f.write_str("a list"),
        }
    }
}

fn unknown(kind: u32) -> Fault {
    Fault::wrong(format!("is of type {kind}, which is not known"))
}
