//! Images and videos compared with Pillow, torchvision and qwen_vl_utils
//! (`tests/reference/make_media.py`), and files that are not what they claim to be.

#[path = "support/mutations.rs"]
mod mutations;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mutations::{Random, crc32, mutate, take};
use proxima_media::{
    Clip, MediaError, MediaFile, MediaOptions, Pixels, Preprocessor, TakeFrame, Video, VideoInfo,
    VideoReader, VideoSource,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/media")
}

fn read(name: &str) -> Vec<u8> {
    fs::read(golden().join("files").join(name)).expect("a golden")
}

fn goldens(kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(golden().join("media.json")).expect("goldens");
    let goldens: Value = serde_json::from_str(&text).expect("JSON");
    goldens[kind].as_array().expect("a list").clone()
}

fn text<'a>(golden: &'a Value, key: &str) -> &'a str {
    golden[key].as_str().unwrap_or_default()
}

fn size(golden: &Value) -> (usize, usize) {
    let side = |key: &str| golden[key].as_u64().expect("a number") as usize;
    (side("width"), side("height"))
}

fn preprocessor() -> Preprocessor {
    Preprocessor::new(&MediaOptions::default(), 32)
}

fn image(bytes: Vec<u8>) -> Result<Arc<Pixels>, MediaError> {
    preprocessor().image(&MediaFile::new(bytes))
}

/// The maximum and the mean absolute difference.
fn difference(ours: &[u8], theirs: &[u8]) -> (u8, f64) {
    assert_eq!(ours.len(), theirs.len());
    let steps = ours.iter().zip(theirs).map(|(one, other)| one.abs_diff(*other));
    let sum: u64 = steps.clone().map(u64::from).sum();
    (steps.max().unwrap_or(0), sum as f64 / ours.len() as f64)
}

#[test]
fn lossless_images_match_bit_for_bit() {
    let mut wrong = Vec::new();
    let goldens = goldens("images");
    for golden in goldens.iter().filter(|golden| golden["sha256"].is_string()) {
        let name = text(golden, "file");
        match image(read(name)) {
            Ok(pixels) => {
                let digest = Sha256::digest(pixels.frame(0));
                let digest: String = digest.iter().map(|b| format!("{b:02x}")).collect();
                if (pixels.width(), pixels.height()) != size(golden) {
                    wrong.push(format!("{name}: {pixels:?}"));
                } else if digest != text(golden, "sha256") {
                    wrong.push(format!("{name}: other numbers"));
                }
            }
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), goldens.len());
}

#[test]
fn jpegs_are_close_to_the_reference() {
    for golden in goldens("images").iter().filter(|golden| golden["expected"].is_string()) {
        let name = text(golden, "file");
        let ours = image(read(name)).expect(name);
        let theirs = image(read(text(golden, "expected"))).expect(name);
        assert_eq!((ours.width(), ours.height()), size(golden), "{name}");
        let (most, mean) = difference(ours.frame(0), theirs.frame(0));
        println!("{name}: at most {most}, {mean:.4} on average");
        assert!(most <= 6 && mean < 0.5, "{name}: {most}, {mean}");
    }
}

fn video_of(golden: &Value) -> Video {
    let file = |name: &str| Arc::new(MediaFile::new(read(name)));
    let source = match golden["files"].as_array() {
        Some(names) => {
            let names = names.iter().map(|name| name.as_str().expect("a name"));
            VideoSource::Frames(names.map(file).collect())
        }
        None => VideoSource::File(file(text(golden, "file"))),
    };
    let frames_max = golden["frames_max"].as_u64().map(|frames| frames as usize);
    Video { source, fps: golden["fps"].as_f64(), frames_max }
}

fn numbers(clip: &Clip) -> Vec<u8> {
    let frames = clip.groups.iter().flat_map(|group| [group.frame(0), group.frame(1)]);
    frames.flatten().copied().collect()
}

/// Decodes base64.
fn base64(text: &str) -> Vec<u8> {
    let digit = |letter: u8| match letter {
        b'A'..=b'Z' => u32::from(letter - b'A'),
        b'a'..=b'z' => u32::from(letter - b'a') + 26,
        b'0'..=b'9' => u32::from(letter - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let letters: Vec<u8> = text.bytes().filter(|letter| *letter != b'=').collect();
    let bytes = letters.chunks(4).flat_map(|four| {
        let number = four.iter().fold(0, |number, letter| number << 6 | digit(*letter));
        let number = number << (6 * (4 - four.len()));
        number.to_be_bytes()[1..four.len()].to_vec()
    });
    bytes.collect()
}

#[test]
fn videos_match_the_reference_except_at_ties() {
    let (mut all, mut different) = (0, 0);
    for golden in goldens("videos") {
        let name = format!("{} {} {}", golden["file"], golden["files"], golden["fps"]);
        let clip = preprocessor().video(&video_of(&golden)).expect(&name);
        let seconds = golden["seconds"].as_array().expect("seconds");
        assert_eq!(clip.seconds.len(), seconds.len(), "{name}");
        for (ours, theirs) in clip.seconds.iter().zip(seconds) {
            let theirs = theirs.as_f64().expect("a number");
            assert!((ours - theirs).abs() < 1e-9, "{name}: {ours} {theirs}");
        }
        let group = &clip.groups[0];
        assert_eq!((group.width(), group.height()), size(&golden), "{name}");
        let ours: Vec<u8> = numbers(&clip).into_iter().step_by(997).collect();
        let theirs = base64(text(&golden, "sampled"));
        let (most, _) = difference(&ours, &theirs);
        assert!(most <= 1, "{name}: {most}");
        different += ours.iter().zip(&theirs).filter(|(one, other)| one != other).count();
        all += ours.len();
    }
    println!("{different} of {all} numbers differ");
    assert!(different * 1000 <= all, "{different} of {all}");
}

#[test]
fn results_are_kept_and_keys_tell_them_apart() {
    let preprocessor = preprocessor();
    let file = Arc::new(MediaFile::new(read("rgb.png")));
    let first = preprocessor.image(&file).expect("an image");
    assert!(Arc::ptr_eq(&first, &preprocessor.image(&file).expect("an image")));
    let animated = Arc::new(MediaFile::new(read("animated.gif")));
    let video = |fps, frames_max| {
        let source = VideoSource::File(animated.clone());
        preprocessor.video(&Video { source, fps, frames_max }).expect("a video")
    };
    let plain = video(None, None);
    assert!(Arc::ptr_eq(&plain, &video(None, None)));
    assert!(!Arc::ptr_eq(&plain, &video(Some(2.0), None)));
    assert!(!Arc::ptr_eq(&plain, &video(None, Some(2))));
    assert_eq!(video(None, Some(2)).groups.len(), 1);
    let still = preprocessor.image(&animated).expect("its first frame");
    assert_eq!((still.frames(), still.width(), still.height()), (1, 96, 64));
}

/// Reads frames that are filled with their index.
#[derive(Debug)]
struct Colors {
    info: VideoInfo,
    missing: usize,
}

impl VideoReader for Colors {
    fn probe(&self, _: &[u8]) -> Result<VideoInfo, MediaError> {
        Ok(self.info)
    }

    fn read(
        &self,
        _: &[u8],
        info: &VideoInfo,
        frames: &[usize],
        take: &mut TakeFrame<'_>,
    ) -> Result<(), MediaError> {
        assert!(frames.windows(2).all(|pair| pair[0] < pair[1]));
        for &frame in &frames[..frames.len() - self.missing] {
            take(frame, &vec![frame as u8; info.width * info.height * 3])?;
        }
        Ok(())
    }
}

fn colors(frames: usize, fps: f64, missing: usize) -> Preprocessor {
    let info = VideoInfo { frames, fps, width: 64, height: 48 };
    let reader: Option<Arc<dyn VideoReader>> = Some(Arc::new(Colors { info, missing }));
    Preprocessor::new(&MediaOptions { reader, ..MediaOptions::default() }, 32)
}

fn film(fps: Option<f64>, frames_max: Option<usize>) -> Video {
    let source = VideoSource::File(Arc::new(MediaFile::new(b"film".to_vec())));
    Video { source, fps, frames_max }
}

#[test]
fn video_files_are_sampled_evenly() {
    let clip = colors(101, 25.0, 0).video(&film(None, None)).expect("a clip");
    let shown: Vec<u8> = numbers(&clip).chunks(clip.bytes() / 4).map(|frame| frame[0]).collect();
    assert_eq!(shown, [0, 33, 67, 100]);
    assert_eq!(clip.seconds, [33.0 / 50.0, 167.0 / 50.0]);
    assert_eq!((clip.groups[0].width(), clip.groups[0].height()), (448, 320));
    let clip = colors(100, 25.0, 0).video(&film(Some(5.0), Some(8))).expect("a clip");
    assert_eq!(clip.groups.len(), 4);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for fps in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = colors(10, 1.0, 0).video(&film(Some(fps), None)).unwrap_err();
        assert!(matches!(error, MediaError::Sampling(_)), "{error}");
    }
    let error = colors(10, 1.0, 0).video(&film(None, Some(769))).unwrap_err();
    assert_eq!(error, MediaError::TooManyFrames { frames: 769, limit: 768 });
    let error = colors(10, 1.0, 0).video(&film(None, Some(1))).unwrap_err();
    assert!(matches!(error, MediaError::Sampling(_)), "{error}");
    for (frames, fps) in [(1, 1.0), (10, 0.0), (10, f64::NAN), (10, f64::INFINITY)] {
        let error = colors(frames, fps, 0).video(&film(None, None)).unwrap_err();
        assert!(matches!(error, MediaError::Sampling(_)), "{error}");
    }
    let error = colors(0, 1.0, 0).video(&film(None, None)).unwrap_err();
    assert!(matches!(error, MediaError::Empty { .. }), "{error}");
    let error = colors(10, 1.0, 1).video(&film(None, None)).unwrap_err();
    assert!(matches!(error, MediaError::Reader(_)), "{error}");
    let error = preprocessor().video(&film(None, None)).unwrap_err();
    assert!(matches!(error, MediaError::NoVideo(_)), "{error}");
    let file = Arc::new(MediaFile::new(read("rgb.png")));
    let frames = |count| Video {
        source: VideoSource::Frames(vec![file.clone(); count]),
        fps: None,
        frames_max: None,
    };
    let error = preprocessor().video(&frames(769)).unwrap_err();
    assert_eq!(error, MediaError::TooManyFrames { frames: 769, limit: 768 });
    let error = preprocessor().video(&frames(0)).unwrap_err();
    assert!(matches!(error, MediaError::Empty { .. }), "{error}");
    let mut other = frames(3);
    if let VideoSource::Frames(files) = &mut other.source {
        files[2] = Arc::new(MediaFile::new(read("large.png")));
    }
    let error = preprocessor().video(&other).unwrap_err();
    assert!(error.to_string().starts_with("frame 3 of the video (400 x 300"), "{error}");
}

#[test]
fn what_is_cut_off_is_refused() {
    for golden in goldens("images") {
        let name = text(&golden, "file");
        let bytes = read(name);
        let whole = image(bytes.clone()).expect(name);
        for eighth in 0..8 {
            let cut = bytes[..bytes.len() * eighth / 8].to_vec();
            if let Ok(pixels) = image(cut) {
                // Only data that no pixel depends on may be missing.
                assert_eq!(pixels.frame(0), whole.frame(0), "{name}: {eighth}/8");
            }
        }
    }
}

/// Files whose headers claim `side` x `side` pixels.
fn promises(side: u32) -> Vec<(&'static str, Vec<u8>)> {
    let patched = |name, offsets: &[usize], bytes: &[u8]| {
        let mut file = read(name);
        for &at in offsets {
            file[at..at + bytes.len()].copy_from_slice(bytes);
        }
        (name, file)
    };
    let short = (side as u16).to_be_bytes();
    let frame = read("444.jpeg").windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame");
    // WebP stores sizes minus one.
    let canvas = &side.wrapping_sub(1).to_le_bytes()[..3];
    let little = side.to_le_bytes();
    let tiff = read("strip.tiff");
    let tag = |tag: u8| tiff.windows(4).position(|at| at == [tag, 1, 4, 0]).expect("a tag") + 8;
    let mut png = patched("rgb.png", &[16, 20], &side.to_be_bytes());
    // Fixes the header's checksum, so that the size is what is rejected.
    let crc = crc32(&png.1[12..29]).to_be_bytes();
    png.1[29..33].copy_from_slice(&crc);
    vec![
        png,
        patched("444.jpeg", &[frame + 5, frame + 7], &short),
        patched("palette.gif", &[6, 8], &(side as u16).to_le_bytes()),
        patched("animated.webp", &[24, 27], canvas),
        patched("rgb.bmp", &[18, 22], &little),
        patched("strip.tiff", &[tag(0), tag(1), tag(22)], &little),
    ]
}

#[test]
fn what_promises_too_much_or_nothing_is_refused_at_once() {
    for (name, file) in promises(60_000) {
        let error = image(file).unwrap_err();
        assert!(
            matches!(error, MediaError::TooManyPixels { width: 60_000, height: 60_000, .. }),
            "{name}: {error}"
        );
    }
    // A GIF's frame enlarges an empty screen.
    for (name, file) in promises(0).into_iter().filter(|(name, _)| !name.ends_with("gif")) {
        let error = image(file).unwrap_err();
        assert!(!matches!(error, MediaError::UnknownFormat { .. }), "{name}: {error}");
    }
    let small = MediaOptions { pixels_max: 5000, ..MediaOptions::default() };
    let preprocessor = Preprocessor::new(&small, 32);
    for golden in goldens("images") {
        let name = text(&golden, "file");
        if size(&golden) == (96, 64) && name != "odd.png" {
            let error = preprocessor.image(&MediaFile::new(read(name))).expect_err(name);
            assert!(
                matches!(error, MediaError::TooManyPixels { limit: 5000, .. }),
                "{name}: {error}"
            );
        }
    }
}

/// A WebP file of `frames` frames, each this image chunk of 96 x 64 pixels.
fn animated(image: &[u8], frames: usize) -> Vec<u8> {
    let chunk = |name: &[u8; 4], data: &[u8]| {
        [&name[..], &(data.len() as u32).to_le_bytes(), data].concat()
    };
    let (size, animation) = ([95, 0, 0, 63, 0, 0], 2);
    let frame = [&[0; 6][..], &size, &[100, 0, 0, 0], image].concat();
    let mut file = b"WEBP".to_vec();
    file.extend(chunk(b"VP8X", &[&[animation, 0, 0, 0][..], &size].concat()));
    file.extend(chunk(b"ANIM", &[0; 6]));
    file.extend(chunk(b"ANMF", &frame).repeat(frames));
    chunk(b"RIFF", &file)
}

#[test]
fn an_image_inside_that_promises_more_than_its_file_is_refused() {
    let still = read("lossy-alpha.webp");
    let image_at = |file: &[u8], last: bool| {
        let mut names = file.windows(4).enumerate().filter(|(_, name)| name == b"VP8 ");
        let found = if last { names.next_back() } else { names.next() };
        found.expect("a lossy image").0 + 8
    };
    let film = animated(&read("lossy.webp")[12..], 3);
    assert_eq!(played(&preprocessor(), film.clone()).expect("a clip").groups.len(), 1);
    for (sound, last) in [(&still, false), (&film, false), (&film, true)] {
        let at = image_at(sound, last);
        let mut file = sound.clone();
        // 16,383 x 16,383, the largest size that can be stored.
        file[at + 6..at + 10].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
        let error = played(&preprocessor(), file).unwrap_err();
        assert!(error.to_string().contains("not have the size that the file declares"), "{error}");
    }
}

/// A GIF with frames of these sizes, each of one colour.
fn gif(screen: (u16, u16), frames: &[(u16, u16)]) -> Vec<u8> {
    let mut file = Vec::new();
    let palette = [0, 0, 0, 200, 100, 50];
    let mut encoder = gif::Encoder::new(&mut file, screen.0, screen.1, &palette).expect("a GIF");
    for &(width, height) in frames {
        let pixels = vec![1; usize::from(width) * usize::from(height)];
        let frame = gif::Frame { width, height, buffer: pixels.into(), ..gif::Frame::default() };
        encoder.write_frame(&frame).expect("a frame");
    }
    drop(encoder);
    file
}

fn played(preprocessor: &Preprocessor, file: Vec<u8>) -> Result<Arc<Clip>, MediaError> {
    let source = VideoSource::File(Arc::new(MediaFile::new(file)));
    preprocessor.video(&Video { source, fps: None, frames_max: None })
}

#[test]
fn frames_beyond_the_screen_are_counted_whole() {
    let options = MediaOptions { pixels_max: 1 << 14, ..MediaOptions::default() };
    let preprocessor = Preprocessor::new(&options, 32);
    // At most 16 times `pixels_max` is drawn.
    assert!(played(&preprocessor, gif((16, 16), &[(128, 128); 16])).is_ok());
    let error = played(&preprocessor, gif((16, 16), &[(128, 128); 17])).unwrap_err();
    assert!(matches!(&error, MediaError::Sampling(_)), "{error}");
    let error = played(&preprocessor, gif((16, 16), &[(128, 129); 2])).unwrap_err();
    assert!(matches!(&error, MediaError::TooManyPixels { .. }), "{error}");
}

#[test]
fn a_gif_may_begin_with_a_line() {
    for line in [(300, 1), (1, 300)] {
        let pixels = image(gif((300, 300), &[line])).expect("the screen");
        let numbers = pixels.frame(0);
        assert!(numbers[0] > 150 && numbers[numbers.len() - 1] == 0, "{line:?}");
    }
}

#[test]
fn an_animation_of_one_frame_is_an_image() {
    for file in [animated(&read("lossy.webp")[12..], 1), gif((96, 64), &[(96, 64)])] {
        let clip = played(&preprocessor(), file).expect("a clip");
        assert_eq!(clip.groups.len(), 1);
        assert_eq!(clip.groups[0].frame(0), clip.groups[0].frame(1));
    }
}

#[test]
fn what_is_no_image_is_refused() {
    let error = image(Vec::new()).unwrap_err();
    assert_eq!(error, MediaError::Empty { what: "the image" });
    let svg = b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>".to_vec();
    for bytes in [svg, b"text".to_vec(), b"%PDF-1.7".to_vec(), vec![0; 5000], vec![0xff; 3]] {
        let error = image(bytes).unwrap_err();
        assert!(matches!(error, MediaError::UnknownFormat { .. }), "{error}");
        assert!(error.to_string().contains("PNG, JPEG, GIF, WebP, BMP, TIFF"), "{error}");
    }
    // Only the magic bytes of formats.
    for bytes in [&b"BM"[..], b"GIF89a", b"II*\0", b"MM\0*", b"RIFF....WEBP", b"\xff\xd8\xff"] {
        let error = image(bytes.to_vec()).unwrap_err();
        assert!(matches!(error, MediaError::Damaged { .. }), "{error}");
    }
    let video = Video {
        source: VideoSource::Frames(vec![Arc::new(MediaFile::new(b"no".to_vec()))]),
        fps: None,
        frames_max: None,
    };
    let error = preprocessor().video(&video).unwrap_err();
    assert!(matches!(error, MediaError::UnknownFormat { .. }), "{error}");
}

#[test]
fn damage_does_no_harm() {
    let images = goldens("images");
    let files: Vec<Vec<u8>> = images.iter().map(|golden| read(text(golden, "file"))).collect();
    let sound = Arc::new(MediaFile::new(files[0].clone()));
    let preprocessor = mutations::preprocessor();
    let mut random = Random::new(1);
    for file in files.iter().cycle().take(files.len() * 10) {
        let other = &files[random.below(files.len())];
        take(&preprocessor, mutate(file, other, &mut random), &sound);
    }
}
