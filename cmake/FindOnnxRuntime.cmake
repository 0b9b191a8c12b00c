# SPDX-License-Identifier: Apache-2.0
# Finds ONNX Runtime's C API, in this order: ONNXRUNTIME_ROOT (variable or environment), a system
# libonnxruntime (pkg-config), and what scripts/setup.sh put under .deps/.
set(_roots "")
if(ONNXRUNTIME_ROOT)
    list(APPEND _roots ${ONNXRUNTIME_ROOT})
elseif(DEFINED ENV{ONNXRUNTIME_ROOT})
    list(APPEND _roots $ENV{ONNXRUNTIME_ROOT})
endif()
if(NOT _roots)
    find_package(PkgConfig QUIET)
    pkg_check_modules(PC_ORT QUIET libonnxruntime>=${OnnxRuntime_FIND_VERSION})
endif()
find_path(OnnxRuntime_INCLUDE_DIR onnxruntime_c_api.h
    HINTS ${_roots} ${PC_ORT_INCLUDE_DIRS} ${CMAKE_SOURCE_DIR}/.deps/onnxruntime
    PATH_SUFFIXES include include/onnxruntime include/onnxruntime/core/session)
find_library(OnnxRuntime_LIBRARY NAMES onnxruntime
    HINTS ${_roots} ${PC_ORT_LIBRARY_DIRS} ${CMAKE_SOURCE_DIR}/.deps/onnxruntime
    PATH_SUFFIXES lib lib64)
if(OnnxRuntime_INCLUDE_DIR)
    file(STRINGS ${OnnxRuntime_INCLUDE_DIR}/onnxruntime_c_api.h _version REGEX "#define ORT_API_VERSION")
    string(REGEX MATCH "[0-9]+" _version "${_version}")
    set(OnnxRuntime_VERSION 1.${_version})
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OnnxRuntime
    REQUIRED_VARS OnnxRuntime_LIBRARY OnnxRuntime_INCLUDE_DIR VERSION_VAR OnnxRuntime_VERSION
    REASON_FAILURE_MESSAGE "run `sh scripts/setup.sh`, or set ONNXRUNTIME_ROOT")
if(OnnxRuntime_FOUND AND NOT TARGET OnnxRuntime::OnnxRuntime)
    add_library(OnnxRuntime::OnnxRuntime SHARED IMPORTED)
    set_target_properties(OnnxRuntime::OnnxRuntime PROPERTIES
        IMPORTED_LOCATION ${OnnxRuntime_LIBRARY}
        INTERFACE_INCLUDE_DIRECTORIES ${OnnxRuntime_INCLUDE_DIR}
        INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${OnnxRuntime_INCLUDE_DIR})
endif()
