//! There is no XDP on FreeBSD: netmap(4) is what it has instead.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::lb::acl::Acl;
use crate::lb::flow::{Elsewhere, Record, Shape, Tag};
use crate::os::Interface;
use crate::xdp::image::Image;
use crate::xdp::layout::{OpenerKey, Totals, Traffic};
use crate::xdp::{Action, Attached, Pin};

/// A program that cannot be.
pub enum Program {}

/// Flows that cannot be.
pub enum KernelFlows {}

/// A walk through them.
#[derive(Default)]
pub struct Walk(());

/// No interface has one.
pub fn has_program(_index: u32) -> bool {
    false
}

/// Asked for XDP alone.
pub fn has_hardware(_interface: &str) -> bool {
    false
}

impl Program {
    /// There is none.
    ///
    /// # Errors
    /// Always.
    pub fn load(_interface: &Interface, _shape: Shape, _pin: Option<Pin<'_>>) -> io::Result<Program> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "XDP is Linux's: say --driver netmap"))
    }

    /// See Linux.
    pub fn pinned(&self) -> Vec<PathBuf> {
        match *self {}
    }

    /// See Linux.
    pub fn is_inherited(&self) -> bool {
        match *self {}
    }

    /// See Linux.
    ///
    /// # Errors
    /// See Linux.
    pub fn attach(&mut self, _index: u32, _modes: &[Attached]) -> io::Result<(Attached, Option<io::Error>)> {
        match *self {}
    }

    /// See Linux.
    ///
    /// # Errors
    /// See Linux.
    pub fn install(&mut self, _image: Image) -> io::Result<()> {
        match *self {}
    }

    /// See Linux.
    pub fn clear(&mut self) {
        match *self {}
    }

    /// See Linux.
    pub fn beat(&mut self) {
        match *self {}
    }

    /// See Linux.
    ///
    /// # Errors
    /// See Linux.
    pub fn permit(&mut self, _acl: &Acl, _number: u32) -> io::Result<()> {
        match *self {}
    }

    /// See Linux.
    pub fn forbid(&mut self, _acl: &Acl, _number: u32) {
        match *self {}
    }

    /// See Linux.
    pub fn forbid_below(&mut self, _first: Option<u32>) -> u32 {
        match *self {}
    }

    /// See Linux.
    ///
    /// # Errors
    /// See Linux.
    pub fn flows(&self) -> io::Result<KernelFlows> {
        match *self {}
    }

    /// See Linux.
    pub fn totals(&self) -> Totals {
        match *self {}
    }

    /// See Linux.
    pub fn traffic(&self, _number: u32) -> Traffic {
        match *self {}
    }

    /// See Linux.
    pub fn openers(&self) -> Vec<(OpenerKey, usize, Duration)> {
        match *self {}
    }

    /// See Linux.
    ///
    /// # Errors
    /// See Linux.
    pub fn test_run(&mut self, _frame: &[u8]) -> io::Result<(Action, Vec<u8>)> {
        match *self {}
    }
}

impl KernelFlows {
    /// See Linux.
    ///
    /// # Errors
    /// See Linux.
    pub fn walk(&self, _walk: &mut Walk) -> io::Result<(Vec<Record>, bool)> {
        match *self {}
    }
}

impl KernelFlows {
    /// See Linux.
    pub fn drop_expired(&mut self, _record: &Record) {
        match *self {}
    }
}

impl Elsewhere for KernelFlows {
    fn find(&mut self, _tag: Tag) -> Option<Record> {
        match *self {}
    }

    fn put(&mut self, _record: &Record) {
        match *self {}
    }

    fn offer(&mut self, _record: &Record) {
        match *self {}
    }

    fn forget(&mut self, _tag: Tag) {
        match *self {}
    }
}
