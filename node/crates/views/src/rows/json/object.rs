//! Objects: the rows themselves, and structs inside them.

use std::collections::HashMap;

use alluvium_core::schema::Column;
use arrow::array::ArrayRef;

use super::super::error::nearest;
use super::super::misfit::{Misfit, What};
use super::column::ColumnReader;
use super::scan::Scanner;

/// Reads objects into columns, one for each key there may be.
pub(super) struct Object {
    columns: Vec<Field>,
    by_name: HashMap<String, usize>,
    by_lower_name: HashMap<String, Option<usize>>,
    /// The column of the first key of the last object, of its second, and so on: most objects have
    /// their keys in the same order, so a guess saves the look-up.
    guesses: Vec<usize>,
    row_count: usize,
}

struct Field {
    name: String,
    is_nullable: bool,
    reader: ColumnReader,
    /// How many values it has; behind the others as long as the object at hand does not have its
    /// key.
    len: usize,
}

impl Object {
    pub fn new(columns: &[Column]) -> Object {
        let mut by_lower_name = HashMap::new();
        for (place, column) in columns.iter().enumerate() {
            by_lower_name
                .entry(column.name.to_lowercase())
                .and_modify(|known| *known = None)
                .or_insert(Some(place));
        }
        let names = columns.iter().map(|column| column.name.clone());
        Object {
            by_name: names.zip(0..).collect(),
            by_lower_name,
            guesses: (0..columns.len()).collect(),
            columns: columns.iter().map(Field::new).collect(),
            row_count: 0,
        }
    }

    /// How many objects were read.
    pub fn len(&self) -> usize {
        self.row_count
    }

    /// The columns.
    pub fn finish(&mut self) -> Vec<ArrayRef> {
        self.columns.iter_mut().map(|column| column.reader.finish()).collect()
    }

    /// Adds null to every column: inside a struct that is null itself, where NOT NULL says nothing.
    pub fn push_null(&mut self) {
        for column in &mut self.columns {
            column.reader.push_null();
            column.len += 1;
        }
        self.row_count += 1;
    }

    /// Reads one object. After an error the columns are of no use any more.
    pub fn read(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Box<Misfit>> {
        scanner.expect(b'{')?;
        scanner.space();
        let mut key_count = 0;
        if !scanner.take(b'}') {
            loop {
                scanner.space();
                let key = scanner.string()?;
                scanner.space();
                scanner.expect(b':')?;
                scanner.space();
                let place = self.find(&key, key_count)?;
                self.columns[place].read(scanner, self.row_count)?;
                key_count += 1;
                scanner.space();
                if !scanner.take(b',') {
                    break;
                }
            }
            scanner.expect(b'}')?;
        }
        if key_count != self.columns.len() {
            self.fill()?;
        }
        self.row_count += 1;
        Ok(())
    }

    /// The column of a key.
    #[inline]
    fn find(&mut self, key: &str, key_count: usize) -> Result<usize, Box<Misfit>> {
        if let Some(&guess) = self.guesses.get(key_count)
            && self.columns[guess].name == key
        {
            return Ok(guess);
        }
        let place = match self.by_name.get(key) {
            Some(&place) => Some(place),
            None => self.by_lower_name.get(&key.to_lowercase()).copied().flatten(),
        };
        let Some(place) = place else {
            let names = self.columns.iter().map(|column| column.name.as_str());
            let nearest = nearest(key, names);
            return Err(Misfit::new(0, What::Unknown { nearest }).inside(key));
        };
        if let Some(guess) = self.guesses.get_mut(key_count) {
            *guess = place;
        }
        Ok(place)
    }

    /// Gives null to every column the object did not name.
    fn fill(&mut self) -> Result<(), Box<Misfit>> {
        for column in &mut self.columns {
            if column.len == self.row_count {
                if !column.is_nullable {
                    return Err(Misfit::new(0, What::Missing).inside(&column.name));
                }
                column.reader.push_null();
                column.len += 1;
            }
        }
        Ok(())
    }
}

impl Field {
    fn new(column: &Column) -> Field {
        Field {
            name: column.name.clone(),
            is_nullable: column.nullable,
            reader: ColumnReader::new(&column.column_type),
            len: 0,
        }
    }

    #[inline]
    fn read(&mut self, scanner: &mut Scanner<'_>, row_count: usize) -> Result<(), Box<Misfit>> {
        if self.len != row_count {
            return Err(Misfit::new(0, What::Twice).inside(&self.name));
        }
        self.len += 1;
        if scanner.peek() == Some(b'n') && scanner.take_word("null") {
            if !self.is_nullable {
                return Err(Misfit::new(0, What::Null).inside(&self.name));
            }
            self.reader.push_null();
            return Ok(());
        }
        self.reader.read(scanner).map_err(|misfit| misfit.inside(&self.name))
    }
}
