//! Objects: the rows themselves, and structs inside them.

use alluvium_core::schema::Column;
use arrow::array::ArrayRef;

use super::super::error::nearest;
use super::super::misfit::{Misfit, What};
use super::column::ColumnReader;
use super::scan::Scanner;

/// Reads objects into columns, one for each key there may be.
pub(super) struct Object {
    columns: Vec<Field>,
    /// The column of the first key of the last object, of its second, and so on: most objects have
    /// their keys in the same order, so that the search for a key ends where it begins.
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
    /// For objects with these keys, and about so many of them.
    pub fn new(columns: &[Column], capacity: usize) -> Object {
        Object {
            guesses: (0..columns.len()).collect(),
            columns: columns.iter().map(|column| Field::new(column, capacity)).collect(),
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

    /// The column of the key at this place of an object.
    #[inline]
    fn find(&mut self, key: &str, key_count: usize) -> Result<usize, Box<Misfit>> {
        let guess = self.guesses.get(key_count).copied().unwrap_or(0);
        match self.columns.get(guess) {
            Some(column) if column.name == key => Ok(guess),
            Some(_) | None => self.search(key, key_count, guess),
        }
    }

    /// Goes round all columns: where some keys are left out the right one is soon behind the guess.
    fn search(&mut self, key: &str, at: usize, guess: usize) -> Result<usize, Box<Misfit>> {
        let places = (guess..self.columns.len()).chain(0..guess);
        let exact = places.into_iter().find(|&place| self.columns[place].name == key);
        let Some(place) = exact.or_else(|| self.search_any_case(key)) else {
            let names = self.columns.iter().map(|column| column.name.as_str());
            let nearest = nearest(key, names);
            return Err(Misfit::new(0, What::Unknown { nearest }).inside(key));
        };
        if let Some(guess) = self.guesses.get_mut(at) {
            *guess = place;
        }
        Ok(place)
    }

    /// The only column that is called so but for case.
    fn search_any_case(&self, key: &str) -> Option<usize> {
        let key = key.to_lowercase();
        let is_called_so = |&place: &usize| self.columns[place].name.to_lowercase() == key;
        let mut places = (0..self.columns.len()).filter(is_called_so);
        let place = places.next()?;
        if places.next().is_some() { None } else { Some(place) }
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
    fn new(column: &Column, capacity: usize) -> Field {
        Field {
            name: column.name.clone(),
            is_nullable: column.nullable,
            reader: ColumnReader::new(&column.column_type, capacity),
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
