//! What is embedded or ranked: a text, or texts, images and videos together.
//!
//! Both are generic over their files `F`: where a file is, until it has been read, and then the
//! file itself.
//! Must not know: templates, wire formats, what is in a file.

use std::sync::Arc;

use proxima_media::{MediaFile, Video, VideoSource};

/// A part of an [`Item`].
#[derive(Debug, Clone, PartialEq)]
pub enum Part<F = Arc<MediaFile>> {
    /// A text.
    Text(Arc<str>),
    /// An image file.
    Image(F),
    /// A video.
    Video(Arc<Video<F>>),
}

/// Texts, images and videos that form one input.
#[derive(Debug, Clone, PartialEq)]
pub struct Item<F = Arc<MediaFile>> {
    /// Its parts, in order; possibly none.
    pub parts: Vec<Part<F>>,
    /// Its own instruction, which overrides the request's.
    pub instruction: Option<String>,
    /// The title of a document, for models whose prompt for documents has room for one.
    pub title: Option<String>,
}

impl Item {
    /// An item in the order that models expect: videos, then images, then texts.
    pub fn new(texts: Vec<Arc<str>>, images: Vec<Arc<MediaFile>>, videos: Vec<Arc<Video>>) -> Self {
        let parts = videos.into_iter().map(Part::Video);
        let parts = parts.chain(images.into_iter().map(Part::Image));
        let parts: Vec<Part> = parts.chain(texts.into_iter().map(Part::Text)).collect();
        parts.into()
    }
}

impl<F> Item<F> {
    /// Whether it has an image or a video.
    pub fn has_media(&self) -> bool {
        self.parts.iter().any(|part| !matches!(part, Part::Text(_)))
    }

    /// Its texts joined by newlines, as text-only models take them; `None` if it has other parts or
    /// none at all. Multimodal models take the parts as they are.
    pub fn text(&self) -> Option<Arc<str>> {
        if let [Part::Text(text)] = &self.parts[..] {
            return Some(text.clone());
        }
        let texts = self.parts.iter().map(|part| match part {
            Part::Text(text) => Some(&**text),
            Part::Image(_) | Part::Video(_) => None,
        });
        let texts: Vec<&str> = texts.collect::<Option<_>>()?;
        (!texts.is_empty()).then(|| texts.join("\n").into())
    }

    /// The same item with each file replaced by `read`.
    ///
    /// # Errors
    /// The first error of `read`.
    pub fn try_map<G, E>(self, mut read: impl FnMut(F) -> Result<G, E>) -> Result<Item<G>, E>
    where
        F: Clone,
    {
        let mut parts = Vec::with_capacity(self.parts.len());
        for part in self.parts {
            parts.push(match part {
                Part::Text(text) => Part::Text(text),
                Part::Image(file) => Part::Image(read(file)?),
                Part::Video(video) => {
                    let Video { source, fps, frames_max } = Arc::unwrap_or_clone(video);
                    let source = match source {
                        VideoSource::File(file) => VideoSource::File(read(file)?),
                        VideoSource::Frames(frames) => {
                            let frames = frames.into_iter().map(&mut read);
                            VideoSource::Frames(frames.collect::<Result<_, E>>()?)
                        }
                    };
                    Part::Video(Arc::new(Video { source, fps, frames_max }))
                }
            });
        }
        Ok(Item { parts, instruction: self.instruction, title: self.title })
    }

    /// Its image and video files, frames one by one.
    pub fn files(&self) -> impl Iterator<Item = &F> {
        self.parts.iter().flat_map(|part| match part {
            Part::Text(_) => &[],
            Part::Image(file) => std::slice::from_ref(file),
            Part::Video(video) => video.files(),
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.len(),
            Part::Image(_) | Part::Video(_) => 0,
        });
        parts.sum::<usize>() + self.title.as_ref().map_or(0, String::len)
    }

    pub(crate) fn characters(&self) -> usize {
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.chars().count(),
            Part::Image(_) | Part::Video(_) => 0,
        });
        parts.sum::<usize>() + self.title.as_ref().map_or(0, |title| title.chars().count())
    }
}

impl<F> Default for Item<F> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<F> From<Vec<Part<F>>> for Item<F> {
    fn from(parts: Vec<Part<F>>) -> Self {
        Self { parts, instruction: None, title: None }
    }
}

/// What is embedded, or a query or document: a text, or an item of several parts.
#[derive(Debug, Clone, PartialEq)]
pub enum Content<F = Arc<MediaFile>> {
    /// A text.
    Text(Arc<str>),
    /// Texts, images and videos.
    Item(Arc<Item<F>>),
}

impl<F> Content<F> {
    /// Its texts joined by newlines; `None` if it has other parts or none at all.
    pub fn text(&self) -> Option<Arc<str>> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Item(item) => item.text(),
        }
    }

    /// Its own instruction.
    pub fn instruction(&self) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::Item(item) => item.instruction.as_deref(),
        }
    }

    /// Its title.
    pub fn title(&self) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::Item(item) => item.title.as_deref(),
        }
    }

    /// Whether it has an image or a video.
    pub fn has_media(&self) -> bool {
        matches!(self, Self::Item(item) if item.has_media())
    }

    /// Its parts, if it is an item; none if it is a text.
    pub fn parts(&self) -> &[Part<F>] {
        match self {
            Self::Text(_) => &[],
            Self::Item(item) => &item.parts,
        }
    }

    /// Its image and video files, frames one by one.
    pub fn files(&self) -> impl Iterator<Item = &F> {
        let item = match self {
            Self::Text(_) => None,
            Self::Item(item) => Some(item),
        };
        item.into_iter().flat_map(|item| item.files())
    }

    /// Size of its texts in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Item(item) => item.bytes(),
        }
    }

    pub(crate) fn characters(&self) -> usize {
        match self {
            Self::Text(text) => text.chars().count(),
            Self::Item(item) => item.characters(),
        }
    }
}

impl<F> From<&str> for Content<F> {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl<F> From<String> for Content<F> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl<F> From<Arc<str>> for Content<F> {
    fn from(text: Arc<str>) -> Self {
        Self::Text(text)
    }
}

/// An item of a single text and nothing else is a text.
impl<F> From<Item<F>> for Content<F> {
    fn from(item: Item<F>) -> Self {
        match (&item.parts[..], &item.instruction, &item.title) {
            ([Part::Text(text)], None, None) => Self::Text(text.clone()),
            _ => Self::Item(Arc::new(item)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_alone_are_a_text_of_a_line_each() {
        let item = |parts: Vec<Part>| Item::from(parts);
        let (a, b) = (Part::Text("a".into()), Part::Text("b".into()));
        let image = Part::Image(Arc::new(MediaFile::new(vec![0])));
        assert_eq!(item(vec![a.clone()]).text().as_deref(), Some("a"));
        assert_eq!(item(vec![a.clone(), b.clone()]).text().as_deref(), Some("a\nb"));
        assert_eq!(item(vec![a, image, b]).text(), None);
        assert_eq!(item(vec![]).text(), None);
    }
}
