# SPDX-License-Identifier: Apache-2.0
# Finds ONNX Runtime's C API, in this order: ONNXRUNTIME_ROOT (variable or environment; then nowhere else), a
# system libonnxruntime (pkg-config, then where CMake looks by itself), and what scripts/setup.sh put under
# .deps/. One that is too old is passed over. What was found stays in the cache until ONNXRUNTIME_ROOT changes.
set(_root "")
if(ONNXRUNTIME_ROOT)
    set(_root ${ONNXRUNTIME_ROOT})
elseif(DEFINED ENV{ONNXRUNTIME_ROOT})
    set(_root $ENV{ONNXRUNTIME_ROOT})
endif()
if(_root AND NOT _root STREQUAL OnnxRuntime_ROOT_SEARCHED)
    unset(OnnxRuntime_INCLUDE_DIR CACHE)
    unset(OnnxRuntime_LIBRARY CACHE)
    set(OnnxRuntime_ROOT_SEARCHED ${_root} CACHE INTERNAL "the ONNXRUNTIME_ROOT that was looked in")
endif()

# Sets the include folder, the library and the version; arguments are options of find_path and find_library.
macro(onnxruntime_search)
    find_path(OnnxRuntime_INCLUDE_DIR onnxruntime_c_api.h ${ARGN}
        PATH_SUFFIXES include include/onnxruntime include/onnxruntime/core/session
                      onnxruntime onnxruntime/core/session)
    find_library(OnnxRuntime_LIBRARY NAMES onnxruntime ${ARGN} PATH_SUFFIXES lib lib64)
    set(OnnxRuntime_VERSION 0)
    if(OnnxRuntime_INCLUDE_DIR)
        file(STRINGS ${OnnxRuntime_INCLUDE_DIR}/onnxruntime_c_api.h _version REGEX "#define ORT_API_VERSION")
        string(REGEX MATCH "[0-9]+" _version "${_version}")
        set(OnnxRuntime_VERSION 1.${_version})
    endif()
endmacro()

if(_root)
    onnxruntime_search(HINTS ${_root} NO_DEFAULT_PATH)
    set(_reason "ONNXRUNTIME_ROOT is ${_root} and must be a folder with include/ and lib/")
else()
    find_package(PkgConfig QUIET)
    pkg_check_modules(PC_ORT QUIET libonnxruntime>=${OnnxRuntime_FIND_VERSION})
    onnxruntime_search(HINTS ${PC_ORT_INCLUDE_DIRS} ${PC_ORT_LIBRARY_DIRS})
    if(NOT OnnxRuntime_LIBRARY OR OnnxRuntime_VERSION VERSION_LESS OnnxRuntime_FIND_VERSION)
        unset(OnnxRuntime_INCLUDE_DIR CACHE)
        unset(OnnxRuntime_LIBRARY CACHE)
        onnxruntime_search(HINTS ${CMAKE_SOURCE_DIR}/.deps/onnxruntime NO_DEFAULT_PATH)
    endif()
    set(_reason "run `sh scripts/setup.sh`, or set ONNXRUNTIME_ROOT")
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OnnxRuntime
    REQUIRED_VARS OnnxRuntime_LIBRARY OnnxRuntime_INCLUDE_DIR VERSION_VAR OnnxRuntime_VERSION
    REASON_FAILURE_MESSAGE "${_reason}")
if(OnnxRuntime_FOUND AND NOT TARGET OnnxRuntime::OnnxRuntime)
    add_library(OnnxRuntime::OnnxRuntime SHARED IMPORTED)
    set_target_properties(OnnxRuntime::OnnxRuntime PROPERTIES
        IMPORTED_LOCATION ${OnnxRuntime_LIBRARY}
        INTERFACE_INCLUDE_DIRECTORIES ${OnnxRuntime_INCLUDE_DIR}
        INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${OnnxRuntime_INCLUDE_DIR})
endif()
