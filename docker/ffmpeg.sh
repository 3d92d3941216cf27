#!/bin/sh
# Builds ffmpeg and ffprobe of Debian's sources with what Proxima asks of them, and nothing else:
# decoders of videos on the web, two containers, no network, no encoder. Debian's own package is
# 467 MB with what it depends on; these are a few. Run as root on Debian:
#
#     ffmpeg.sh amd64|arm64 FOLDER
#
# What is built runs on that architecture; the result is below FOLDER.
set -eu
arch=$1 out=$2
here=$(dpkg --print-architecture)

set -- gcc libc6-dev make nasm pkg-config dpkg-dev
cross=
if [ "$arch" != "$here" ]; then
    case $arch in
        amd64) machine=x86_64 package=x86-64 ;;
        arm64) machine=aarch64 package=aarch64 ;;
        *) echo "ffmpeg.sh: it is not known how to build for $arch"; exit 1 ;;
    esac
    triplet=$machine-linux-gnu
    dpkg --add-architecture "$arch"
    set -- "$@" "gcc-$package-linux-gnu" "libc6-dev-$arch-cross"
    export PKG_CONFIG_LIBDIR="/usr/lib/$triplet/pkgconfig"
    cross="--enable-cross-compile --target-os=linux --arch=$machine --cross-prefix=$triplet-"
fi
# The sources are those that Debian patches for security, checked by its keys.
sources=/etc/apt/sources.list.d/ffmpeg-sources.list
echo 'deb-src http://deb.debian.org/debian trixie main' > $sources
echo 'deb-src http://deb.debian.org/debian-security trixie-security main' >> $sources
apt-get update
apt-get install -y --no-install-recommends "$@" "libdav1d-dev:$arch"

mkdir -p /build/ffmpeg
cd /build/ffmpeg
apt-get source ffmpeg
cd ffmpeg-*/
# The decoders of server/src/media/ffmpeg/mod.rs, with their parsers. AV1 is libdav1d's, which goes along
# and is found beside them; nothing else is needed but the C library.
# shellcheck disable=SC2086 # several words, or none
./configure --prefix=/ --disable-everything --disable-autodetect --disable-doc --disable-debug \
    --disable-network --disable-avdevice --disable-swresample --disable-ffplay --enable-pic \
    --extra-ldflags=-Wl,-rpath,/usr/local/lib \
    --enable-libdav1d --pkg-config=pkg-config $cross \
    --enable-protocol=file,pipe --enable-demuxer=mov,matroska --enable-muxer=rawvideo \
    --enable-encoder=rawvideo --enable-filter=select,scale,format,null \
    --enable-decoder=h264,hevc,vp8,vp9,mpeg4,mpeg1video,mpeg2video,h263,mjpeg,libdav1d \
    --enable-parser=h264,hevc,vp8,vp9,mpeg4video,mpegvideo,h263,mjpeg,av1 \
    --enable-bsf=vp9_superframe_split,av1_frame_split,h264_mp4toannexb,hevc_mp4toannexb
make -j"$(nproc)" ffmpeg ffprobe
mkdir -p "$out/usr/local/bin" "$out/usr/local/lib" "$out/usr/local/share/doc/ffmpeg"
cp ffmpeg ffprobe "$out/usr/local/bin/"
cp "$(dpkg -L "libdav1d7:$arch" | grep 'libdav1d\.so\.7$')" "$out/usr/local/lib/"
cp /usr/share/doc/libdav1d7/copyright "$out/usr/local/share/doc/ffmpeg/copyright-libdav1d"
cp debian/copyright COPYING.LGPLv2.1 "$out/usr/local/share/doc/ffmpeg/"
